"""Adds 1 to every key of a model again and again, while its map changes; prints how often the map was fetched anew."""
import sys

from glint_client import Client

client = Client(sys.argv[1], deadline=60)
model = client.open("stale")
for turn in range(int(sys.argv[2])):
    model.push(list(range(model.keys)), [1] * model.keys, as_json=turn % 2 == 0)
print(client.refreshes)
