"""The local endpoint: OpenAI's image API and ClawRouter's, for any client on this machine."""
