# ARNs are made from names, so that what is derived from them is whole in a plan; what uses them waits all the same.
output "blobs" {
  description = "Name of the bucket for large events; null without one."
  value       = local.bucket
  depends_on  = [aws_s3_bucket.blobs]
}

output "dead_letters" {
  description = "ARNs of the queues of dead letters by their origin, for the function that stores them."
  value = merge(
    { for name, arn in local.queues : name => replace(arn, "/\\.fifo$/", "-dlq.fifo") },
    { for k in ["sink"] : k => local.sink_arn if local.sink != null },
  )
  depends_on = [aws_sqs_queue.dead, aws_sqs_queue.sink]
}

output "policies" {
  description = "What of the events each trigger is sent, as SNS decides it."
  value       = local.policies
}

output "queues" {
  description = "For the functions, by name: the ARN of the queue, the batch, and the seconds that an invocation may take."
  value = { for name, arn in local.queues : name => {
    arn     = arn
    batch   = min(10, local.deliveries[name].batch)
    timeout = local.timeouts[name]
  } }
  depends_on = [aws_sqs_queue.trigger]
}

output "topics" {
  description = "ARNs of the topics of events and of dead letters."
  value       = local.topics
  depends_on  = [aws_sns_topic.topic]
}
