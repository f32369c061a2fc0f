"""`python -m eqcrl` is the command line."""

from eqcrl.cli.main import run

if __name__ == "__main__":
    run()
