"""The server with a bucket of its own and a page to watch it: no AWS account, no set-up."""
