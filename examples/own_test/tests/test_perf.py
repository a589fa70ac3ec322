def test_perf(perf_phase):
    report = perf_phase.report
    assert report.ok, perf_phase.fail_reasons
    # The project's own condition: /hello has three times the weight of /api/ping, and both must be answered.
    assert set(report.path_metrics) == {"/api/ping", "/hello"}
