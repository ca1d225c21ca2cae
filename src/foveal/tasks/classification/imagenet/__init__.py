"""ImageNet and its robustness benchmarks: classes, layouts, corruptions, published figures."""
