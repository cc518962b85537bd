"""What is said to BlockRun: requests, the catalogue, gateways and the HTTP client."""
