"""Speed beside peers, measured in one interleaved run. Knows models, ops and timm."""
