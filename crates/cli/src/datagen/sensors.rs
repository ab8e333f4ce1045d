//! Readings of machine sensors: a daily swing, a slow drift of each device, noise, and the anomalies one looks for.
//!
//! Anomalies last some readings: a spike (temperature far up), a stuck value, or vibration before a failure.

use super::Generator;
use super::json::{Object, push_padded};
use super::random::Random;

const SITES: [&str; 4] = ["hamburg", "rotterdam", "gdansk", "antwerp"];

/// The chance that a reading begins an anomaly of its device.
const ANOMALY_CHANCE: f64 = 0.0015;

const MS_A_DAY: f64 = 86_400_000.0;

/// Makes the readings, device after device.
#[derive(Debug)]
pub(crate) struct Sensors {
    random: Random,
    devices: Vec<Device>,
    next_device: usize,
    object: Object,
}

#[derive(Debug, Clone)]
struct Device {
    base_temperature: f64,
    drift: f64,
    battery: f64,
    anomaly: Option<Anomaly>,
}

#[derive(Debug, Clone, Copy)]
struct Anomaly {
    kind: AnomalyKind,
    left: u64,
}

#[derive(Debug, Clone, Copy)]
enum AnomalyKind {
    Spike,
    Stuck(f64),
    Vibration,
}

impl Sensors {
    /// Readings of `devices` devices.
    pub(crate) fn new(seed: u64, devices: u64) -> Self {
        let mut random = Random::new(seed);
        let devices = (0..devices.max(1))
            .map(|_| Device {
                base_temperature: 38.0 + 6.0 * random.normal(),
                drift: 0.0,
                battery: 60.0 + 40.0 * random.unit(),
                anomaly: None,
            })
            .collect();
        Self { random, devices, next_device: 0, object: Object::default() }
    }
}

impl Device {
    /// Temperature and vibration of the next reading.
    fn read(&mut self, random: &mut Random, event_time_ms: i64) -> (f64, f64) {
        // A random walk that is pulled back to zero.
        self.drift += 0.05 * random.normal() - 0.002 * self.drift;
        self.battery = if self.battery < 5.0 { 100.0 } else { self.battery - 0.002 };
        let swing = 3.0 * (std::f64::consts::TAU * event_time_ms as f64 / MS_A_DAY).sin();
        let temperature = self.base_temperature + self.drift + swing + 0.3 * random.normal();
        let vibration = (0.8 + 0.15 * random.normal()).max(0.0);
        let Some(anomaly) = &mut self.anomaly else {
            if random.chance(ANOMALY_CHANCE) {
                let kind = match random.below(3) {
                    0 => AnomalyKind::Spike,
                    1 => AnomalyKind::Stuck(temperature),
                    _ => AnomalyKind::Vibration,
                };
                self.anomaly = Some(Anomaly { kind, left: 10 + random.below(30) });
            }
            return (temperature, vibration);
        };
        anomaly.left -= 1;
        let kind = anomaly.kind;
        if anomaly.left == 0 {
            self.anomaly = None;
        }
        match kind {
            AnomalyKind::Spike => (temperature + 25.0 + 3.0 * random.normal(), vibration),
            AnomalyKind::Stuck(value) => (value, vibration),
            AnomalyKind::Vibration => (temperature + 2.0, vibration * 6.0),
        }
    }
}

impl Generator for Sensors {
    fn next(&mut self, event_time_ms: i64, key: &mut Vec<u8>) -> &[u8] {
        let index = self.next_device;
        self.next_device = (index + 1) % self.devices.len();
        let random = &mut self.random;
        let device = &mut self.devices[index];
        let (temperature, vibration) = device.read(random, event_time_ms);
        let number = index as u64;
        key.extend_from_slice(b"dev-");
        push_padded(key, number, 4);
        let object = &mut self.object;
        object.begin();
        object.numbered("device_id", "dev-", number, 4);
        object.text("site", SITES[index % SITES.len()]);
        object.hundredths("temperature", (temperature * 100.0) as i64);
        object.hundredths("vibration", (vibration * 100.0) as i64);
        object.hundredths("battery", (device.battery * 100.0) as i64);
        object.timestamp("ts", event_time_ms);
        object.end()
    }
}
