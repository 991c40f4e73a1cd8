"""`python -m glue_harness <command>`: the same as `edora-glue <command>`."""

from glue_harness.cli.main import main

if __name__ == "__main__":
    main()
