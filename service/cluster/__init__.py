"""The Ray side: connecting to a cluster or making one, and placing a trial's workers in it."""
