"""How long a request took and where, under the names that Fireworks' clients read.

Header names have the prefix `fireworks-`; the body's `perf_metrics` has the same names without it.
"""

from firefront.gateway.generate import Generation

_PREFIX = "fireworks-"


def perf_metrics(generation: Generation) -> dict[str, int | float | str]:
    """Tokens and seconds of a request, so far or finished. Durations are the first choice's."""
    usage = generation.usage()
    details = usage["completion_tokens_details"]
    metrics: dict[str, int | float | str] = {
        "prompt-tokens": usage["prompt_tokens"],
        "cached-prompt-tokens": usage["prompt_tokens_details"]["cached_tokens"],
        "server-processing-time": round(generation.elapsed_s, 6),
        "num-concurrent-requests": generation.model.replica.num_pending,
        "deployment": generation.model.name,
    }
    if generation.first_token_s is not None:
        metrics["server-time-to-first-token"] = round(generation.first_token_s, 6)
    if predicted := len(generation.prompts[0].prediction):
        metrics["speculation-prompt-tokens"] = predicted
        metrics["speculation-prompt-matched-tokens"] = details["accepted_prediction_tokens"]
    timings = generation.timings[0]
    if timings is not None and timings.queue_s is not None:
        metrics["prefill-queue-duration"] = round(timings.queue_s, 6)
        if timings.first_token_s is not None:
            metrics["prefill-duration"] = round(timings.first_token_s - timings.queue_s, 6)
            if timings.total_s is not None:
                generation_s = timings.total_s - timings.first_token_s
                metrics["generation-duration"] = round(generation_s, 6)
    return metrics


def perf_headers(generation: Generation) -> dict[str, str]:
    """The same as headers, and as Server-Timing, which browsers show."""
    metrics = perf_metrics(generation)
    headers = {_PREFIX + name: str(value) for name, value in metrics.items()}
    spans = {
        "ttft": metrics.get("server-time-to-first-token"),
        "queue": metrics.get("prefill-queue-duration"),
        "prefill": metrics.get("prefill-duration"),
        "generation": metrics.get("generation-duration"),
        "total": metrics["server-processing-time"],
    }
    headers["server-timing"] = ", ".join(
        f"{name};dur={1e3 * value:.1f}" for name, value in spans.items() if isinstance(value, float)
    )
    return headers
