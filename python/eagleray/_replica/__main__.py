"""`python -m eagleray._replica`."""

from eagleray._replica.main import main

if __name__ == "__main__":
    main()
