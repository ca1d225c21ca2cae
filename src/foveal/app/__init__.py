"""The foveal explorer: a local web page to look into a network."""
