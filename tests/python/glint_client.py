"""A client of Glint in Python's standard library, written from docs/protocol.md alone.
    model = Client("http://127.0.0.1:7100").create("counters", {"vector": {"keys": 1000}}, "i64")
    model.push([3, 5], [1, 2])          # applied exactly once, whatever happens on the way
    model.pull([5, 3])                  # [2, 1]; of a matrix: whole rows, one after another
"""
import bisect, collections, http.client, json, random, secrets, struct, time
ELEMENTS = {"i32": (1, "i", 4), "i64": (2, "q", 8), "f32": (3, "f", 4), "f64": (4, "d", 8)}
RULES, BROKEN = {"add": 1, "assign": 2, "max": 3, "min": 4}, (OSError, http.client.HTTPException)
LANE_ENDS = {"superseded", "lane_conflict", "lane_from_future", "lost"}

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF

def attempts(seconds):  # yields until the deadline, with pauses that double, and some randomness
    end, pause = time.monotonic() + seconds, 0.01
    while time.monotonic() < end:
        yield
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2.0, pause * 2)

class GlintError(Exception):
    """What was refused; `code` is from the protocol's table, or `unknown` for a push that could not be settled."""
    def __init__(self, body):
        super().__init__(f"{body['code']}: {body['message']}")
        self.code, self.detail = body["code"], body.get("detail") or {}

class Lane:
    """A stream of numbered pushes; `acknowledged`: (model, generation, partition) -> the last number applied there."""
    def __init__(self, horizon=0):
        self.birth, self.random = max(int(time.time() * 1000), horizon + 1), secrets.randbits(64)
        self.number, self.acknowledged = 0, collections.defaultdict(int)

class Client:
    """`deadline` (seconds) is for one operation, `timeout` for one answer."""
    def __init__(self, master, deadline=60.0, timeout=5.0):
        self.master, self.deadline, self.timeout, self.lane, self.connections = master, deadline, timeout, Lane(), {}
        self.retries = self.refreshes = 0

    def send(self, url, method, path, body=None, form="application/json"):
        """The body of a whole answer. OSError or HTTPException: send it again; GlintError: refused."""
        connection = self.connections.get(url) or http.client.HTTPConnection(url.split("/")[2], timeout=self.timeout)
        try:
            connection.request(method, path, body, {"content-type": form, "glint-protocol": "1"})
            response, self.connections[url] = connection.getresponse(), connection
            status, answer = response.status, response.read()
            if response.headers["content-length"] != str(len(answer)):  # the answer was cut inside its head
                raise http.client.IncompleteRead(answer)
        except BROKEN:
            self.connections.pop(url, connection).close()
            raise
        if status >= 400:
            error = GlintError(json.loads(answer))
            raise OSError(str(error)) if status in (408, 429, 500, 503) or error.code == "storage_full" else error
        return answer

    def ask(self, method, path, body=None):
        """JSON from the master, repeated until the deadline."""
        for _ in attempts(self.deadline):
            try:
                return json.loads(self.send(self.master, method, path, body and json.dumps(body)))
            except BROKEN as error:
                cause, self.retries = str(error), self.retries + 1
        raise TimeoutError(f"the master at {self.master} does not answer: {cause}")

    def create(self, name, shape, element, or_open=False, **options):
        body = {"id": secrets.token_hex(8), "or_open": or_open, "model": {"name": name, "shape": shape, "element": element, **options}}
        return Model(self, self.ask("POST", "/v1/models", body))

    def open(self, name):
        return Model(self, self.ask("GET", f"/v1/models/{name}"))

class Model:
    def __init__(self, client, model_map):
        self.client, self.map, spec = client, model_map, model_map["spec"]
        self.name, self.element, self.partitions, self.rule = map(spec.get, ("name", "element", "partition_count", "rule"))
        self.id, self.generation = map(model_map["incarnation"].get, ("model", "generation"))
        (kind, shape), = spec["shape"].items()
        self.keys, self.cols, self.matrix = shape.get("keys", shape.get("rows")), shape.get("cols", 1), kind == "matrix"
        self.partitioning, (self.code, self.letter, self.size) = spec["partitioning"], ELEMENTS[self.element]

    def locate(self, key):
        if not 0 <= key < self.keys:
            raise IndexError(f"key {key} of model '{self.name}', which has {self.keys}")
        if self.partitioning == "cyclic":
            return key % self.partitions, key // self.partitions
        if self.partitioning == "range":
            size, small = self.keys // self.partitions, self.partitions - self.keys % self.partitions
            over, local = divmod(key - small * size, size + 1)
            return divmod(key, size) if key < small * size else (small + over, local)
        starts = self.partitioning["boundaries"]["starts"]
        partition = bisect.bisect_right(starts, key) - 1
        return partition, key - starts[partition]

    def refresh(self):
        new, self.client.refreshes = self.client.ask("GET", f"/v1/models/{self.name}"), self.client.refreshes + 1
        if new["incarnation"] != self.map["incarnation"]:
            raise GlintError({"code": "gone", "message": f"model '{self.name}' was made again; open it"})
        if all(map(int.__ge__, new["epochs"], self.map["epochs"])) and new["revision"] >= self.map["revision"]:
            self.map = new

    def pull(self, keys, as_json=False):
        return self.exchange(keys, None, as_json)

    def push(self, keys, values, as_json=False):
        if len(values) != len(keys) * self.cols:
            raise ValueError(f"{len(keys)} keys of {self.cols} columns and {len(values)} values")
        self.exchange(keys, values, as_json)

    def exchange(self, keys, values, as_json):
        """Sends one group per partition until each is settled. A pull's values come in the order of the keys."""
        n = max(1, (1 << 20) // (8 + self.cols * self.size))  # requests of at most about 1 MiB
        if len(keys) > n:
            return [v for at in range(0, len(keys), n) for v in self.exchange(
                keys[at:at + n], values and values[at * self.cols:(at + n) * self.cols], as_json)]
        push, groups, places = values is not None, {}, []
        for at, key in enumerate(keys):
            partition, local = self.locate(key)
            indices, merged = groups.setdefault(partition, ([], []))
            places.append((partition, len(indices)))
            indices.append(local)
            merged += values[at * self.cols:(at + 1) * self.cols] if push else []
        pending, numbered, found, refused = set(groups), {}, {}, None
        for _ in attempts(self.client.deadline):
            fresh, requests, stale = {}, {}, False
            for p in sorted(pending):  # a group keeps lane and number from its first sending on
                url, lane = self.map["servers"][self.map["holders"][p]]["url"], self.client.lane
                if push and p not in numbered:
                    lane.number += url not in fresh
                    numbered[p] = fresh.setdefault(url, (lane, lane.number))
                requests.setdefault((url, numbered.get(p)), []).append(p)
            for (url, ticket), members in requests.items():
                try:
                    results = (self.send_json if as_json else self.send_binary)(url, ticket, {p: groups[p] for p in members})
                except BROKEN:
                    continue  # nothing is known of it: the same again
                except GlintError as error:  # the whole request was refused: numbers stay unsettled
                    raise self.unsettled(error) if push else error
                for p, result in zip(members, results):
                    code = result.code if isinstance(result, GlintError) else None
                    if code is None and push:
                        ticket[0].acknowledged[self.id, self.generation, p] = ticket[1]
                    if code in LANE_ENDS and push:
                        raise self.unsettled(result)
                    if code == "lane_expired":  # certainly not applied: the same as a new push on a new lane
                        self.client.lane = Lane(result.detail["horizon"])
                        del numbered[p]
                    if code in (None, "bad", "gone") or not push and code == "lost":
                        pending.remove(p)
                        found[p], refused = result, refused or (result if code else None)
                    stale = stale or code == "stale_map"
            if not pending:
                if refused:
                    raise refused
                return [] if push else [v for p, at in places for v in found[p][at * self.cols:(at + 1) * self.cols]]
            self.client.retries += 1
            if stale:
                self.refresh()
        raise self.unsettled(f"no answer within {self.client.deadline} s")

    def unsettled(self, why):
        self.client.lane = Lane()  # no later push may overtake on its lane what may still be on its way
        return GlintError({"code": "unknown", "message": f"it cannot be told whether all of it was done: {why}"})

    def send_binary(self, url, ticket, groups):
        """One request; per group its values (a push: none), or a GlintError."""
        kind, lane = (2, (ticket[0].birth, ticket[0].random, ticket[1])) if ticket else (1, (0, 0, 0))
        body = struct.pack("<4sBBHIIQQQQ", b"GLNT", 1, kind, 0, len(groups), 0, *lane, 0)
        for p, (indices, values) in groups.items():
            wide = max(indices) >> 32 > 0
            section = struct.pack("<BBBBHHQQII", 3 if self.matrix else 2, 8 if wide else 4, RULES[self.rule] if ticket else 0, 0,
                                  0, 0, 0, len(indices), len(values) * self.size, self.cols if self.matrix else 0)
            section += struct.pack(f"<{len(indices)}{'Q' if wide else 'I'}{len(values)}{self.letter}", *indices, *values)
            name = struct.pack("<QII", int(self.id, 16), self.generation, p)
            prev, digest = (ticket[0].acknowledged[self.id, self.generation, p], crc32c(name + section)) if ticket else (0, 0)
            body += name + struct.pack("<QQIBBHII", self.map["epochs"][p], prev, digest, kind, self.code, 1, len(section), 0) + section
        path, at, results = f"/v1/{'push' if ticket else 'pull'}", 16, []
        answer = self.client.send(url, "POST", path, body, "application/x-glint")
        for _ in groups:
            status, _, length = struct.unpack_from("<HHI", answer, at)
            payload, at = answer[at + 32:at + 32 + length], at + 32 + length
            results.append(GlintError(json.loads(payload)) if status >= 16 else
                           struct.unpack(f"<{length // self.size}{self.letter}", payload))
        return results

    def send_json(self, url, ticket, groups):  # the same in JSON
        form, body = "rows" if self.matrix else "indices", {"groups": []}
        for p, (indices, values) in groups.items():
            section = {"form": form, form: indices} | ({"cols": self.cols} if self.matrix else {}) | ({"values": values} if ticket else {})
            group = {"prev": ticket[0].acknowledged[self.id, self.generation, p], "rule": self.rule} if ticket else {}
            body["groups"].append(group | {"model": self.id, "generation": self.generation, "partition": p, "sections": [section],
                                           "epoch": self.map["epochs"][p], "element": self.element})
        if ticket:
            body |= {"lane": {"birth": ticket[0].birth, "random": f"{ticket[0].random:016x}"}, "number": ticket[1]}
        answer = json.loads(self.client.send(url, "POST", f"/v1/{'push' if ticket else 'pull'}", json.dumps(body)))
        return [GlintError(r["error"]) if r["status"] == "error" else r.get("values", ()) for r in answer["results"]]
