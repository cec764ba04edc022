variable "broker" {
  description = "Where it publishes and what wakes it, as the platform's output says: the broker's name and the pods that take events in for it."
  type = object({
    name = string
    ingress = object({
      namespace  = string
      pod_labels = map(string)
      port       = number
    })
  })
  nullable = false
}

variable "canary" {
  description = "A second image that gets this percentage of the requests and events while `image` gets the rest. Change nothing else meanwhile."
  type = object({
    image   = string
    percent = number
  })
  default = null
}

variable "config" {
  description = "The platform's ConfigMap of what functions share: its name, the variables it has and a digest of its contents."
  type = object({
    name   = string
    keys   = list(string)
    sha256 = string
  })
  nullable = false
}

variable "dead_letter_sink" {
  description = "Name of the function that takes what could not be delivered."
  type        = string
  default     = null
}

variable "dns" {
  description = "Where names are resolved: the pods, and addresses of a cache on the node when there is one."
  type = object({
    namespace  = optional(string, "kube-system")
    pod_labels = optional(map(string), { k8s-app = "kube-dns" })
    cidrs      = optional(list(string), [])
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
  description = "Further rules of a NetworkPolicy's egress, for what the manifest does not know: a mail server, Stripe."
  type        = any
  default     = []
  nullable    = false
}

variable "environment" {
  description = "Further environment variables, such as OTEL_EXPORTER_OTLP_ENDPOINT. The function's own belong into `settings`."
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
  description = "Own names of the gateway: each gets a DomainMapping, and is claimed for the namespace."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "image" {
  description = "The image of cmd/function, best by digest."
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

variable "ingress" {
  description = "Knative's ingress: the namespaces of its gateways, and the port on which their pods serve cluster-local routes."
  type = object({
    namespaces = list(string)
    port       = optional(number, 8081)
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

variable "manifest" {
  description = "What the function declares: its entry in the generated terraform/manifest.json."
  type        = any
  nullable    = false

  validation {
    condition     = try(var.manifest.front, false)
    error_message = "Only a function whose manifest says front is made public."
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
  description = "The platform's namespace."
  type        = string
  nullable    = false
}

variable "resources" {
  description = "Of the function's container."
  type = object({
    requests = optional(map(string), { cpu = "50m", memory = "32Mi" })
    limits   = optional(map(string), { memory = "128Mi" })
  })
  default  = {}
  nullable = false
}

variable "scale" {
  description = "Pods at least and at most; concurrent requests per pod that the autoscaler aims at, and may not be exceeded (0: no limit); the autoscaler's window."
  type = object({
    min    = optional(number, 0)
    max    = optional(number, 10)
    target = optional(number, 50)
    limit  = optional(number, 0)
    window = optional(string)
  })
  default  = {}
  nullable = false
}

variable "scheme" {
  description = "Of its URL: http or https, as Knative's external-domain-tls says."
  type        = string
  default     = "http"
  nullable    = false

  validation {
    condition     = contains(["http", "https"], var.scheme)
    error_message = "The scheme is http or https."
  }
}

variable "secret" {
  description = "Name of the Secret that holds its secret variables under their own names. It is made by others."
  type        = string
  default     = null
}

variable "sender_identity" {
  description = "Who may post events: the API server's addresses after its Service, and the service accounts of the senders. Null: it takes no events, and stored answers that events would invalidate end with their time."
  type = object({
    api_server = object({
      cidrs = list(string)
      port  = optional(number, 6443)
    })
    audience                  = string
    dead_letter_sink_audience = optional(string)
    senders                   = list(string)
  })
  default = null

  validation {
    condition     = var.sender_identity == null ? true : length(var.sender_identity.api_server.cidrs) > 0 && length(var.sender_identity.senders) > 0
    error_message = "Sender identity needs the API server's addresses, whose keys the function reads, and the service accounts that may send."
  }
}

variable "service_account_annotations" {
  description = "Of its ServiceAccount, for a cloud's workload identity."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "settings" {
  description = "Values of the variables that the manifest lists. What is left out has the default that the Go code gives it."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "signing_keys" {
  description = "Name of the Secret with rotating signing keys, as modules/keys changes it: it is mounted, and read again when it changes. Null: keys are variables."
  type        = string
  default     = null
}

variable "timeout_seconds" {
  description = "How long an answer may take. It is longer than the trigger's timeout, so that it is the broker who gives up first."
  type        = number
  default     = 60
  nullable    = false
}

variable "traffic" {
  description = "How requests and events are shared out among revisions, when `canary` is not enough: name (null: the latest), percent, tag."
  type = list(object({
    revision = optional(string)
    percent  = number
    tag      = optional(string)
  }))
  default  = []
  nullable = false
}
