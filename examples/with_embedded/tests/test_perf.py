def test_perf(perf_phase):
    assert perf_phase.report.ok, perf_phase.fail_reasons
