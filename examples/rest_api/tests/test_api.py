def test_api(perf_phase, perf_metric):
    report = perf_phase.report
    assert report.ok, perf_phase.fail_reasons
    if "POST /item" in report.path_metrics:
        # A figure of the project's own: it has a history, a noise and a verdict like the others.
        perf_metric("item_p50_ms", report.path_metrics["POST /item"].p50_ms, unit="ms")
