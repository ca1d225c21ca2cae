"""What each task adds to the training loop: images, loss, metrics, recipes."""
