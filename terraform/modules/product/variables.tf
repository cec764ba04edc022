variable "broker" {
  description = "Class and configuration of the Broker, as modules/platform takes them."
  type = object({
    name  = optional(string)
    class = optional(string)
    config = optional(object({
      api_version = optional(string)
      kind        = optional(string)
      namespace   = optional(string)
      name        = string
    }))
    ingress = optional(object({
      namespace  = optional(string)
      pod_labels = map(string)
      port       = optional(number)
    }))
    async_channel = optional(bool)
  })
  default  = {}
  nullable = false
}

variable "canaries" {
  description = "Functions that try a second image: {orders = {image, percent}}."
  type = map(object({
    image   = string
    percent = number
  }))
  default  = {}
  nullable = false
}

variable "deliveries" {
  description = "How events are delivered, by function, where that differs from what it declares; \"*\" for all others: {retry, backoff, delay, timeout, batch, concurrency}."
  type = map(object({
    retry       = optional(number)
    backoff     = optional(string)
    delay       = optional(string)
    timeout     = optional(string)
    batch       = optional(number)
    concurrency = optional(number)
  }))
  default  = {}
  nullable = false
}

variable "dns" {
  description = "Where names are resolved, as modules/platform takes it."
  type = object({
    namespace  = optional(string)
    pod_labels = optional(map(string))
    cidrs      = optional(list(string))
  })
  default  = {}
  nullable = false
}

variable "domain" {
  description = "Knative's domain in this cluster: the gateway is gateway.NAMESPACE.DOMAIN."
  type        = string
  nullable    = false
}

variable "egress" {
  description = "Further rules of egress by function, such as {payments = [{to = …, ports = …}]}."
  type        = any
  default     = {}
  nullable    = false
}

variable "environment" {
  description = "Further environment variables of every function, such as OTEL_EXPORTER_OTLP_ENDPOINT."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "h2c" {
  description = "Whether HTTP/2 reaches the gateway, for gRPC. WebSockets do not then."
  type        = bool
  default     = false
  nullable    = false
}

variable "hosts" {
  description = "Own names of the gateway, besides the one that Knative gives it."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "image" {
  description = "The image of every function that `images` does not name."
  type        = string
  nullable    = false
}

variable "image_pull_policy" {
  description = "Always, IfNotPresent or Never; null leaves it to Kubernetes."
  type        = string
  default     = null
}

variable "image_pull_secrets" {
  description = "Names of the Secrets that a private registry is read with. They are made by others."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "images" {
  description = "Images by function: each deploys alone."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "ingress" {
  description = "Knative's ingress, as modules/function takes it."
  type = object({
    namespaces = list(string)
    port       = optional(number)
  })
  nullable = false
}

variable "internal_tls" {
  description = "Whether Knative encrypts what its ingress and its activator send to pods: system-internal-tls of its config-network."
  type        = bool
  default     = false
  nullable    = false
}

variable "kubectl" {
  description = "The kubeconfig and the context that kubectl uses to wait until things are ready; null is its own default."
  type = object({
    kubeconfig = optional(string)
    context    = optional(string)
  })
  default  = {}
  nullable = false
}

variable "labels" {
  description = "Of the namespace."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "manifest" {
  description = "terraform/manifest.json, decoded."
  type        = any
  nullable    = false

  validation {
    condition     = length([for f in values(var.manifest.functions) : f.name if try(f.front, false)]) == 1
    error_message = "Exactly one function of the manifest serves the outside (front)."
  }
}

variable "mesh" {
  description = "The service mesh that the pods join: none, istio-ambient or linkerd. It is installed by others."
  type        = string
  default     = "none"
  nullable    = false

  validation {
    condition     = contains(["none", "istio-ambient", "linkerd"], var.mesh)
    error_message = "A mesh is none, istio-ambient or linkerd."
  }
}

variable "metrics_secret" {
  description = "Name of the Secret whose key EBB_METRICS_TOKEN scrapers of /metrics show as their bearer token. It is made by others. Null: /metrics answers nobody."
  type        = string
  default     = null
}

variable "monitor" {
  description = "The Prometheus that scrapes the pods, by a PodMonitor of the Prometheus operator (0.82 or later): its namespace, the labels by which it selects monitors, how often it scrapes. It shows the token of metrics_secret. Pods that are at zero are not started. Null: there is no PodMonitor."
  type = object({
    namespace = string
    labels    = optional(map(string), {})
    interval  = optional(string, "30s")
  })
  default = null
}

variable "namespace" {
  description = "Name of the namespace, which is made and belongs to this product alone."
  type        = string
  nullable    = false
}

variable "resources" {
  description = "Of the functions' containers; the key \"*\" is for those that are not named."
  type = map(object({
    requests = optional(map(string))
    limits   = optional(map(string))
  }))
  default  = {}
  nullable = false
}

variable "scale" {
  description = "Bounds of the functions; the key \"*\" is for those that are not named. The fields are those of modules/function."
  type = map(object({
    min    = optional(number)
    max    = optional(number)
    target = optional(number)
    limit  = optional(number)
    window = optional(string)
  }))
  default  = {}
  nullable = false
}

variable "schedule" {
  description = "When functions that tick are woken."
  type        = string
  default     = "* * * * *"
  nullable    = false
}

variable "scheme" {
  description = "Of the gateway's URL: http or https, as Knative's external-domain-tls says."
  type        = string
  default     = "http"
  nullable    = false
}

variable "secrets" {
  description = "Names of the Secrets by function; the key \"*\" is for those that are not named, with {function} for the function's name."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "sender_identity" {
  description = "How functions know who sends them events, as modules/platform takes it; null leaves it to the network policies, and has to be said."
  type = object({
    api_server = object({
      cidrs = list(string)
      port  = optional(number)
    })
  })
}

variable "service_account_annotations" {
  description = "Annotations of the ServiceAccounts, by function."
  type        = map(map(string))
  default     = {}
  nullable    = false
}

variable "settings" {
  description = "Settings by function: {orders = {EBB_ORDERS_STEP_DEADLINE = \"2m\"}}."
  type        = map(map(string))
  default     = {}
  nullable    = false
}

variable "signing_keys" {
  description = "Rotation of the signing keys in the cluster, as modules/keys takes it: the Secret with the keys, the API server, when they rotate, after which time a new key signs, how long an old one is kept. Null: they are in the Secret of users and in verification_keys, and change with these."
  type = object({
    secret = string
    api_server = object({
      cidrs = list(string)
      port  = optional(number)
    })
    schedule = optional(string)
    lead     = optional(string)
    keep     = optional(string)
  })
  default = null

  validation {
    condition     = (var.signing_keys == null) != (var.verification_keys == null)
    error_message = "Say where keys are: signing_keys, a Secret in which they rotate, or verification_keys."
  }
}

variable "stores" {
  description = "Stores by function; the key \"*\" is for those that are not named, with {function} for the function's name."
  type = map(object({
    url   = string
    cidrs = optional(list(string), [])
  }))
  nullable = false
}

variable "strict" {
  description = "Whether what suits a trial only is refused: images by tag, stores in memory, events from senders that prove nothing."
  type        = bool
  nullable    = false
}

variable "timeout_seconds" {
  description = "How long an answer may take."
  type        = number
  default     = 60
  nullable    = false
}

variable "traffic" {
  description = "Shares of revisions by function, when `canaries` is not enough."
  type = map(list(object({
    revision = optional(string)
    percent  = number
    tag      = optional(string)
  })))
  default  = {}
  nullable = false
}

variable "trigger_annotations" {
  description = "Of every Trigger."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "verification_keys" {
  description = "The public JWK set that access tokens are checked with. Null with signing_keys."
  type        = string
  default     = null
}
