"""`python -m worker` is the console script `followers`."""

from worker.cli import main

if __name__ == "__main__":
    main()
