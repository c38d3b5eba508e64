"""What the tests of the console share: its views with what each must show, and a browser."""
