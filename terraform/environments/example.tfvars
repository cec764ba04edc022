# A terraform.tfvars to begin with: copy it into an environment's folder and say what is yours. The plans of CI use it.
kube_context = "kind-ebb"
domain       = "example.com"
ingress      = { namespaces = ["kourier-system"] }

image = "registry.example.com/ebb@sha256:0000000000000000000000000000000000000000000000000000000000000000"

# Each function has a role and a schema of its own, both of this name, in the database shop; and a Secret with that
# role's password (PGPASSWORD) and whatever secret variables the function has. See terraform/README.md.
stores  = { "*" = { url = "postgres://ebb_{function}@db.example.com:5432/shop?sslmode=verify-full", cidrs = ["192.0.2.10/32"] } }
secrets = { "*" = "ebb-{function}" }

# The first administrator. EBB_ADMIN_PASSWORD is in the Secret of users, which does not start with one of the two alone.
settings = { users = { EBB_ADMIN_EMAIL = "admin@example.com" } }

# How events are delivered, where that differs from what the functions declare. With 14 retries an event is tried for
# some 55 minutes before it is a dead letter, which outlasts most outages; the platform does not pause.
# deliveries = { "*" = { retry = 14 }, payments = { retry = 14, timeout = "45s" } }

# Where the API server's pods or nodes are, which a Service's address hides: kubectl get endpoints kubernetes.
sender_identity = { api_server = { cidrs = ["192.0.2.1/32"], port = 6443 } }

# The public half of the users' EBB_SIGNING_KEYS. With signing_keys keys rotate in the cluster instead: take this line out.
# signing_keys    = { secret = "ebb-signing-keys", api_server = { cidrs = ["192.0.2.1/32"], port = 6443 } }
verification_keys = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"example\",\"use\":\"sig\",\"alg\":\"ES256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}"

# The Secret with the token that Prometheus shows (EBB_METRICS_TOKEN). Without it /metrics answers nobody.
# metrics_secret = "ebb-metrics"
# mesh           = "istio-ambient" # or "linkerd": the pods join it
# internal_tls   = true            # if Knative's config-network has system-internal-tls: enabled
