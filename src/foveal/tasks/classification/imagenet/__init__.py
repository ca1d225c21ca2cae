"""ImageNet and the sets that measure robustness beside it: classes, layouts, corruptions, published figures."""
