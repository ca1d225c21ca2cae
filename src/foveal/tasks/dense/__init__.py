"""What detection and segmentation share: a backbone as both hold it, and the made data that their recipes run on."""
