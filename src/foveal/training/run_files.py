"""The names of the files in the folder of a run."""

BEST, LAST = "best.pt", "last.pt"
METRICS, STEPS = "metrics.jsonl", "steps.jsonl"
BEGINNING = "run.json"
TRACKERS = "trackers.json"
BROKEN, LOCK = "broken.txt", ".lock"
