# The example of the README. The provider is mocked, but has to be there: see terraform/README.md.
mock_provider "google" {}

variables {
  name              = "shop-dev"
  place             = { project = "example", number = "123456789012", region = "europe-west1" }
  manifest          = jsondecode(file("../../../manifest.json"))
  image             = "europe-west1-docker.pkg.dev/example/ebb/function:0.9.0"
  secrets           = { "*" = { EBB_PERSONAL_KEYS = "shop-dev-personal-keys" }, users = { EBB_SIGNING_KEYS = "shop-dev-signing-keys" } }
  verification_keys = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"
}

run "everything_of_the_manifest" {
  command = plan

  assert {
    condition     = toset(keys(google_cloud_run_v2_service.function)) == toset(keys(var.manifest.functions))
    error_message = "Each function of the manifest is a service, and nothing else is."
  }
  assert {
    condition     = toset(keys(google_pubsub_subscription.trigger)) == toset(keys(output.subscriptions))
    error_message = "Each trigger has a subscription."
  }
  assert {
    condition     = length([for s in google_cloud_run_v2_service.function : s.name if s.ingress == "INGRESS_TRAFFIC_ALL"]) == 1
    error_message = "Only the gateway is reached from outside."
  }
  assert {
    condition     = alltrue([for s in google_pubsub_subscription.trigger : s.expiration_policy[0].ttl == "" && s.message_retention_duration == "2678400s"])
    error_message = "No subscription expires."
  }
  assert {
    condition     = output.url == "https://shop-dev-gateway-123456789012.europe-west1.run.app"
    error_message = "The outside reaches the gateway."
  }
}
