"""Pictures of what a network sees. These files know arrays and no network."""
