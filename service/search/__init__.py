"""Each cell at its best setting: candidates are tried on seeds of their own, the winners judged on fresh ones."""
