"""Pushes through a proxy that harms messages; prints what the sums must be and how often it had to try again."""
import json
import random
import sys

from glint_client import Client

url, keys, pushes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dice, client = random.Random(7), Client(url, deadline=60)
model = client.create("faulty", {"vector": {"keys": keys}}, "i64", or_open=True, partitions={"exactly": 4})
sums = [0] * keys
for turn in range(pushes):
    chosen = [dice.randrange(keys) for _ in range(dice.randrange(1, 9))]
    values = [dice.randrange(-1000, 1000) for _ in chosen]
    model.push(chosen, values, as_json=turn % 2 == 0)
    for key, value in zip(chosen, values):
        sums[key] += value
print(json.dumps(sums))
print(client.retries)
