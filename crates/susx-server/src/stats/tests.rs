use super::*;
use crate::protocol::FailureKind;

fn answers(good: usize, bad: usize) -> Vec<Result<(), Failure>> {
    let failure = Failure::new(FailureKind::Input, "no image");
    [vec![Ok(()); good], vec![Err(failure); bad]].concat()
}

#[test]
fn everything_is_counted_once() {
    let stats = Stats::new();
    stats.batch(InputKind::Images, &answers(3, 1));
    stats.batch(InputKind::Texts, &answers(1, 0));
    // Generated images count neither as embedded nor as part of a batch.
    stats.generated(&answers(2, 1));
    stats.lost_batch(9, "panic");
    stats.failed(2, "no model");
    let report = stats.report();
    assert_eq!((report.images, report.texts, report.generated), (3, 1, 2));
    assert_eq!((report.failed, report.batches), (13, 3));
    assert_eq!(report.batch_sizes[..5], [1, 0, 1, 0, 1]);
    assert_eq!(report.batch_sizes.iter().sum::<u64>(), report.batches);
    assert_eq!(report.last_error.map(|error| error.message), Some("no model".to_owned()));
}

#[test]
fn batch_size_buckets_have_the_documented_bounds() {
    let mut counts = Counts::default();
    for inputs in [1, 2, 3, 4, 5, 8, 9, 32, 33, 4096, 4097, 1 << 20] {
        counts.count_batch(inputs);
    }
    assert_eq!(counts.batch_sizes, [1, 1, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 1, 2]);
}

#[test]
fn rates_cover_the_recent_window_only() {
    let mut counts = Counts::default();
    let at = Duration::from_millis;
    counts.second(at(200)).images += 5;
    assert_eq!(counts.rates(at(300))[0], 5.0);
    counts.second(at(3_500)).images += 16;
    counts.second(at(3_900)).texts += 8;
    counts.second(at(3_950)).steps += 2;
    assert_eq!(counts.rates(at(4_000)), [21.0 / 4.0, 2.0, 0.5]);
    // The first second is outside the window, which is 9.5 seconds long now.
    assert_eq!(counts.rates(at(12_500)), [16.0 / 9.5, 8.0 / 9.5, 2.0 / 9.5]);
    assert_eq!(counts.rates(at(14_000)), [0.0; 3]);
    counts.second(at(20_100)).images += 9;
    assert_eq!(counts.rates(at(21_000))[0], 1.0);
}

#[test]
fn latencies_cover_two_periods_only() {
    let mut latencies = Latencies::default();
    let at = Duration::from_secs;
    assert!(latencies.recent(at(1)).is_none());
    for milliseconds in 1..=100 {
        latencies.record(at(10), Duration::from_millis(milliseconds));
    }
    let p95 = |latencies: &mut Latencies, uptime| {
        latencies.recent(uptime).map(|recent| recent.value_at_quantile(0.95) as f64 / 1000.0)
    };
    let first = p95(&mut latencies, at(59)).unwrap_or_default();
    assert!((94.0..=96.0).contains(&first), "{first}");
    // Old latencies count for one more period.
    for _ in 0..10_000 {
        latencies.record(at(61), Duration::from_millis(1));
    }
    let second = p95(&mut latencies, at(119)).unwrap_or_default();
    assert!((0.9..=1.1).contains(&second), "{second}");
    assert_eq!(latencies.recent(at(119)).map(|recent| recent.len()), Some(10_100));
    assert_eq!(latencies.recent(at(125)).map(|recent| recent.len()), Some(10_000));
    assert!(latencies.recent(at(300)).is_none());
}
