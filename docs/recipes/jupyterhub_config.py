"""The part of a jupyterhub_config.py that gives a hub a classroom."""

import os

c = get_config()  # noqa: F821  JupyterHub provides it

HUB = os.environ.get("HUB_URL", "https://hub.example.edu")
CLASSROOM = os.environ.get("CLASSROOM_ADDRESS", "http://127.0.0.1:8765")  # where the service listens

# Each student's server, and the classroom, has a domain of its own (wildcard DNS and certificate), so that no page in
# a notebook can use the teacher's page. Leave it out only on a hub where you trust every notebook.
if HUB.startswith("https://"):
    c.JupyterHub.subdomain_host = HUB
    PUBLIC = HUB.replace("https://", "https://classroom--service.")
else:
    PUBLIC = HUB

# 1. The service: the hub forwards /services/classroom/ to it, and recognizes it by this token.
c.JupyterHub.services = [
    {
        "name": "classroom",
        "url": CLASSROOM,
        "api_token": os.environ["CLASSROOM_TOKEN"],  # from `openssl rand -hex 32`; the service gets the same one
        "oauth_no_confirm": True,
    }
]

# 2. The role: everybody may use the service.
c.JupyterHub.load_roles = [
    {"name": "user", "scopes": ["self", "access:services!service=classroom"]},
]

# 3. The scope: the token of each notebook server may prove this to the service.
c.Spawner.server_token_scopes = [
    "users:activity!user",
    "access:servers!server",
    "access:services!service=classroom",
]

# 4. The address: each notebook server knows where the classroom is.
c.Spawner.environment = {"BLOCKRUN_CLASSROOM_URL": f"{PUBLIC}/services/classroom"}

# The teacher's page opens for the members of one group of the hub: `serve --teachers teachers`.
c.JupyterHub.load_groups = {"teachers": {"users": ["grace"]}}
