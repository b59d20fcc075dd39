"""What would a run do, what would it cost, and what did it? Nothing here trains beyond a calibration of seconds."""
