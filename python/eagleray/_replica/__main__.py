"""`python -m eagleray._replica`: what a node of an older release, or with a revision from one, starts."""

from eagleray._bootstrap import Paths
from eagleray._replica.main import main

if __name__ == "__main__":
    main(Paths(None))
