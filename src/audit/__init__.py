"""The privacy audit: what a release gives away about the rows it was made from."""
