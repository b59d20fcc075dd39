"""`python -m service ...` is `diffsweep ...`, for clusters that have nothing installed."""

from service.cli import main

if __name__ == "__main__":
    main()
