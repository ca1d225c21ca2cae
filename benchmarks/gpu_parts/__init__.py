"""What ``gpu_pass.py`` runs in child processes, how it looks after them, and its summary."""
