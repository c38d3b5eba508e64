"""`lorestream doctor`: checks, each with a verdict, its evidence and the fix."""
