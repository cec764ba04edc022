# What an environment is told from outside, in a terraform.tfvars that example.tfvars shows. Nothing here that matters
# for safety has a default: what is lost is missed.

variable "canaries" {
  description = "Functions that try a second image: {orders = {image, percent}}."
  type        = map(object({ image = string, percent = number }))
  default     = {}
}

variable "deliveries" {
  description = "Delivery by function; \"*\" for all others: {retry, backoff, delay, timeout, batch, concurrency}."
  type        = any
  default     = {}
}

variable "dns" {
  description = "Where pods resolve names, when that is not k8s-app=kube-dns in kube-system: {namespace, pod_labels, cidrs}."
  type = object({
    namespace  = optional(string)
    pod_labels = optional(map(string))
    cidrs      = optional(list(string))
  })
  default = {}
}

variable "domain" {
  description = "Knative's domain in this cluster."
  type        = string
}

variable "egress" {
  description = "Further rules of egress by function."
  type        = any
  default     = {}
}

variable "environment" {
  description = "Further environment variables of every function."
  type        = map(string)
  default     = {}
}

variable "hosts" {
  description = "Own names of the gateway."
  type        = list(string)
  default     = []
}

variable "image" {
  description = "The image of every function that images does not name."
  type        = string
}

variable "image_pull_policy" {
  description = "Always, IfNotPresent or Never; null leaves it to Kubernetes."
  type        = string
  default     = null
}

variable "image_pull_secrets" {
  description = "Names of the Secrets that a private registry is read with."
  type        = list(string)
  default     = []
}

variable "images" {
  description = "Images by function."
  type        = map(string)
  default     = {}
}

variable "ingress" {
  description = "The namespaces of the gateways of Knative's ingress, and the port of their pods for cluster-local routes."
  type        = object({ namespaces = list(string), port = optional(number) })
}

variable "internal_tls" {
  description = "Whether Knative encrypts what its ingress and its activator send to pods: system-internal-tls of its config-network."
  type        = bool
  default     = false
  nullable    = false
}

variable "kube_context" {
  description = "The context of the kubeconfig, said by name so that nothing lands in whichever cluster is current."
  type        = string
}

variable "kubeconfig" {
  description = "Path of the kubeconfig."
  type        = string
  default     = "~/.kube/config"
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
  description = "Another namespace than the environment's own, for a second one beside it."
  type        = string
  default     = null
}

variable "scheme" {
  description = "Of the gateway's URL: http or https."
  type        = string
  default     = "http"
}

variable "secrets" {
  description = "Names of the Secrets by function; \"*\" for all others, with {function} for the name."
  type        = map(string)
}

variable "sender_identity" {
  description = "{api_server = {cidrs, port}} where Knative's OIDC is on; null says that it is not."
  type        = object({ api_server = object({ cidrs = list(string), port = optional(number) }) })
}

variable "service_account_annotations" {
  description = "Annotations of the ServiceAccounts, by function."
  type        = map(map(string))
  default     = {}
}

variable "settings" {
  description = "Settings by function."
  type        = map(map(string))
  default     = {}
}

variable "signing_keys" {
  description = "Signing keys that rotate in the cluster: {secret, api_server = {cidrs, port}, schedule, lead, keep}; null: they change by hand."
  type = object({
    secret     = string
    api_server = object({ cidrs = list(string), port = optional(number) })
    schedule   = optional(string)
    lead       = optional(string)
    keep       = optional(string)
  })
  default = null
}

variable "stores" {
  description = "Stores by function; \"*\" for all others, with {function} for the name."
  type        = map(object({ url = string, cidrs = optional(list(string), []) }))
}

variable "traffic" {
  description = "Shares of revisions by function."
  type        = map(list(object({ revision = optional(string), percent = number, tag = optional(string) })))
  default     = {}
}

variable "verification_keys" {
  description = "The public JWK set that access tokens are checked with; null with signing_keys."
  type        = string
  default     = null
}
