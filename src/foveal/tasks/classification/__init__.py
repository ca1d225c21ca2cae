"""Image classification: folders of images, recipes, evaluation, prediction."""
