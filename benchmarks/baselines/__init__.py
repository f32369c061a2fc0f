"""Plain versions of what eqcrl does differently, written here for comparison; each is shown to give the same result."""
