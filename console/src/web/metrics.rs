//! `/metrics`: what Prometheus scrapes, as OpenMetrics text. Services and real servers of IPVS setups keep the
//! names that node_exporter gives them.

use super::site::Shared;
use super::state::serves;
use super::trouble::Trouble;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use control::view::{DropView, RealView, ServiceView, StatusView, SyncView, TrafficView, VrrpView};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

/// What OpenMetrics is called by HTTP.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A metric's name and meaning, and how it is read off a view.
type Reading<View, Number> = (&'static str, &'static str, fn(&View) -> Number);

type Labels = Vec<(&'static str, String)>;

/// One metric with all of its series.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    series: Vec<(Labels, f64)>,
}

/// Everything at one moment.
#[derive(Debug, Default)]
struct Scrape {
    families: Vec<Family>,
}

impl Scrape {
    fn add(
        &mut self,
        (name, kind): (&'static str, MetricType),
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let series = series.into_iter().collect();
        self.families.push(Family { name, help, kind, series });
    }

    fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        self.add((name, MetricType::Gauge), help, series);
    }

    fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        self.add((name, MetricType::Counter), help, series);
    }

    fn status(&mut self, status: &StatusView) {
        let one = |value: f64| [(Vec::new(), value)];
        let refused = f64::from(u8::from(status.store_trouble.is_some()));
        self.gauge("viaduct_connections", "Open connections.", one(status.connections as f64));
        let capacity = one(status.connections_capacity as f64);
        self.gauge("viaduct_connections_capacity", "Connections that the table holds.", capacity);
        self.gauge("viaduct_revision", "Running revision.", one(status.revision as f64));
        self.gauge("viaduct_trial", "Whether a revision is on trial.", {
            one(f64::from(u8::from(status.unconfirmed.is_some())))
        });
        self.gauge("viaduct_changes_refused", "Whether the store takes no changes.", one(refused));
        let turn = "Longest turn of the control loop since the start.";
        self.gauge("viaduct_loop_longest_turn_seconds", turn, one(status.longest_turn));
        self.gauge("viaduct_workers", "Packet workers.", one(status.workers as f64));
    }

    fn services(&mut self, services: &[ServiceView]) {
        let each = |value: &dyn Fn(&ServiceView) -> f64| -> Vec<(Labels, f64)> {
            services.iter().map(|own| (vec![("service", own.name.clone())], value(own))).collect()
        };
        self.gauge("viaduct_service_up", "Whether a service has its quorum.", {
            each(&|own| f64::from(u8::from(own.up)))
        });
        self.gauge("viaduct_service_sorry", "Whether its sorry server answers.", {
            each(&|own| f64::from(u8::from(own.sorry)))
        });
        let traffic: [Reading<TrafficView, u64>; 5] = [
            ("viaduct_service_connections", "Connections opened.", |t| t.connections),
            ("viaduct_service_packets_in", "Packets from clients.", |t| t.in_packets),
            ("viaduct_service_packets_out", "Packets to clients.", |t| t.out_packets),
            ("viaduct_service_bytes_in", "Bytes from clients.", |t| t.in_bytes),
            ("viaduct_service_bytes_out", "Bytes to clients.", |t| t.out_bytes),
        ];
        for (name, help, of) in traffic {
            self.counter(name, help, each(&|own| of(&own.traffic) as f64));
        }
        let all: [Reading<TrafficView, u64>; 5] = [
            ("node_ipvs_connections", "Connections opened, over all services.", |t| t.connections),
            ("node_ipvs_incoming_packets", "Packets from clients.", |t| t.in_packets),
            ("node_ipvs_outgoing_packets", "Packets to clients.", |t| t.out_packets),
            ("node_ipvs_incoming_bytes", "Bytes from clients.", |t| t.in_bytes),
            ("node_ipvs_outgoing_bytes", "Bytes to clients.", |t| t.out_bytes),
        ];
        for (name, help, of) in all {
            let sum: u64 = services.iter().map(|own| of(&own.traffic)).sum();
            self.counter(name, help, [(Vec::new(), sum as f64)]);
        }
    }

    fn reals<'s>(&mut self, services: &'s [ServiceView]) {
        let all = || {
            let of = |service: &'s ServiceView| std::iter::repeat(service).zip(&service.reals);
            services.iter().flat_map(of)
        };
        let each = |labels: fn(&ServiceView, &RealView) -> Labels,
                    value: &dyn Fn(&RealView) -> f64| {
            let series = all().map(|(service, real)| (labels(service, real), value(real)));
            series.collect::<Vec<_>>()
        };
        self.gauge("viaduct_real_serves", "Whether a real server takes new connections.", {
            each(named, &|real| f64::from(u8::from(serves(real))))
        });
        self.counter("viaduct_real_connections", "Connections opened to a real server.", {
            each(named, &|real| real.traffic.connections as f64)
        });
        let as_node_exporter: [Reading<RealView, u32>; 3] = [
            ("node_ipvs_backend_connections_active", "Established connections.", |r| r.active),
            ("node_ipvs_backend_connections_inactive", "Other connections.", |r| r.inactive),
            ("node_ipvs_backend_weight", "Effective weight.", |r| r.effective_weight),
        ];
        for (name, help, of) in as_node_exporter {
            self.gauge(name, help, each(backend, &|real| f64::from(of(real))));
        }
    }

    fn availability(&mut self, instances: &[VrrpView], sync: &SyncView) {
        let each = |value: &dyn Fn(&VrrpView) -> f64| -> Vec<(Labels, f64)> {
            let labels = |own: &VrrpView| vec![("instance", own.name.clone())];
            instances.iter().map(|own| (labels(own), value(own))).collect()
        };
        self.gauge("viaduct_vrrp_master", "Whether this node is master.", {
            each(&|own| f64::from(u8::from(own.state == "master")))
        });
        self.gauge("viaduct_vrrp_faults", "What keeps an instance in fault.", {
            each(&|own| own.faults.len() as f64)
        });
        self.counter("viaduct_vrrp_became_master", "Times that this node became master.", {
            each(&|own| own.became_master as f64)
        });
        let one = |value: f64| [(Vec::new(), value)];
        let up = f64::from(u8::from(sync.state == "up"));
        self.gauge("viaduct_sync_up", "Whether the link to the other director is up.", one(up));
        let lag = "Changed connections that the other director has not confirmed.";
        self.gauge("viaduct_sync_lag_connections", lag, one(sync.lag_connections as f64));
    }

    fn drops(&mut self, drops: &[DropView]) {
        let series = drops.iter();
        let series = series.map(|own| (vec![("reason", own.reason.clone())], own.packets as f64));
        self.counter("viaduct_drops", "Packets that were not forwarded.", series);
    }
}

/// The labels of a real server.
fn named(service: &ServiceView, real: &RealView) -> Labels {
    vec![("service", service.name.clone()), ("real", real.address.to_string())]
}

/// The labels that node_exporter gives a real server.
fn backend(service: &ServiceView, real: &RealView) -> Labels {
    let (address, port) = service
        .address
        .map(|address| (address.ip().to_string(), address.port().to_string()))
        .unwrap_or_default();
    vec![
        ("local_address", address),
        ("local_port", port),
        ("local_mark", service.mark.map(|mark| mark.to_string()).unwrap_or_default()),
        ("remote_address", real.address.ip().to_string()),
        ("remote_port", real.address.port().to_string()),
        ("proto", service.protocol.clone().unwrap_or_default().to_uppercase()),
    ]
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, kind, series } in &self.families {
            // The encoder adds the full stop.
            let help = help.trim_end_matches('.');
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            for (labels, value) in series {
                let labels: Vec<(&str, &str)> =
                    labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let mut series = metric.encode_family(&labels)?;
                if matches!(kind, MetricType::Counter) {
                    series.encode_counter::<NoLabelSet, f64, f64>(value, None)?;
                } else {
                    series.encode_gauge(value)?;
                }
            }
        }
        Ok(())
    }
}

/// `GET /metrics`.
pub async fn scrape(State(site): State<Shared>) -> Result<Response, Trouble> {
    let handle = &site.handle;
    let services = handle.services().await?;
    let mut scrape = Scrape::default();
    scrape.status(&handle.status("", env!("CARGO_PKG_VERSION")).await?);
    scrape.services(&services);
    scrape.reals(&services);
    scrape.availability(&handle.vrrp(), &handle.sync().await?);
    scrape.drops(&handle.drops());
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Trouble::Inner(error.to_string()))?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

/// `GET /healthz`: the process answers.
pub async fn healthy() -> &'static str {
    "ok\n"
}

/// `GET /ready`: the control loop answers.
///
/// # Errors
/// When it is ending.
pub async fn ready(State(site): State<Shared>) -> Result<&'static str, Trouble> {
    site.handle.query(|_, _| ()).await?;
    Ok("ready\n")
}
