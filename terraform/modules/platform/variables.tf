variable "audience" {
  description = "The aud claim of access tokens."
  type        = string
  default     = "ebb"
  nullable    = false
}

variable "broker" {
  description = "Class and configuration of the Broker. The configuration, and the pods that take events in, are known for MTChannelBasedBroker and Kafka; for another class say them."
  type = object({
    name  = optional(string, "default")
    class = optional(string, "MTChannelBasedBroker")
    config = optional(object({
      api_version = optional(string, "v1")
      kind        = optional(string, "ConfigMap")
      namespace   = optional(string, "knative-eventing")
      name        = string
    }))
    ingress = optional(object({
      namespace  = optional(string, "knative-eventing")
      pod_labels = map(string)
      port       = optional(number, 8080)
    }))
    # Of MTChannelBasedBroker's in-memory channel. By default it answers a publish when all subscribers have had the event, so
    # that functions wait for one another's starts; with this it answers at once, and a dispatcher that dies takes
    # along what it was handing out.
    async_channel = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = !coalesce(var.broker.async_channel, false) || var.broker.class == "MTChannelBasedBroker"
    error_message = "async_channel is for the channel of a MTChannelBasedBroker."
  }
  validation {
    condition = contains(["MTChannelBasedBroker", "Kafka"], var.broker.class) || (
      var.broker.config != null && var.broker.ingress != null
    )
    error_message = "For a broker of this class say its config and its ingress; they are known for MTChannelBasedBroker and Kafka."
  }
}

variable "delivery" {
  description = "How a Broker delivers where a Trigger says nothing itself. Durations are ISO 8601, to a tenth of a second."
  type = object({
    retry          = optional(number, 10)
    backoff_policy = optional(string, "exponential")
    backoff_delay  = optional(string, "PT0.1S")
    timeout        = optional(string, "PT30S")
  })
  default  = {}
  nullable = false
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

variable "issuer" {
  description = "The iss claim of access tokens."
  type        = string
  default     = "ebb"
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
  description = "The functions of terraform/manifest.json. The one with dead_letters takes dead letters; those with ticks are woken by the schedule."
  type        = any
  nullable    = false

  validation {
    condition     = length([for m in values(var.manifest) : m.name if try(m.dead_letters, false)]) == 1
    error_message = "Exactly one function of the manifest takes the dead letters."
  }
}

variable "namespace" {
  description = "Name of the namespace, which is made here and belongs to this platform alone."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", var.namespace)) && !contains(["default", "kube-system", "knative-serving", "knative-eventing"], var.namespace)
    error_message = "The namespace is a DNS label, and one that nobody else uses: it goes when the platform goes."
  }
}

variable "schedule" {
  description = "When functions that tick are woken, as cron says it. A minute is the finest that a PingSource knows."
  type        = string
  default     = "* * * * *"
  nullable    = false
}

variable "sender_identity" {
  description = "Whether functions take events only from senders that prove who they are: needs `authentication-oidc: enabled` in Knative's config-features. Then api_server says where the keys of the cluster's issuer are read."
  type = object({
    api_server = object({
      cidrs = list(string)
      port  = optional(number, 6443)
    })
  })
  default = null
}

variable "verification_keys" {
  description = "The public JWK set that access tokens are checked with. Null: functions mount it, as it rotates."
  type        = string
  default     = null

  validation {
    condition     = var.verification_keys == null ? true : try(length(jsondecode(var.verification_keys).keys) > 0, false)
    error_message = "verification_keys is a JWK set with at least one key: {\"keys\":[…]}."
  }
  validation {
    condition     = var.verification_keys == null ? true : alltrue([for k in try(jsondecode(var.verification_keys).keys, []) : try(k.kty, "") != "oct" && !can(k.d)])
    error_message = "verification_keys holds a private or a symmetric key: only public ones belong here."
  }
}
