"""Speed and memory next to peers, measured in one interleaved run. Knows models, ops and timm."""
