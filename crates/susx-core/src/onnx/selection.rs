//! Provider selection: a model runs on the first of the candidates that really runs its graphs.

use super::error::{OnnxError, WrapsOnnxError};
use super::profile::GraphProfile;
use super::provider::Candidate;

/// The selected provider, and the model that was loaded with it.
#[derive(Debug)]
pub struct Selection<T> {
    /// What the attempt returned.
    pub value: T,
    /// The selected candidate.
    pub candidate: Candidate,
    /// Why the candidates before it are not used; `None` if it is the first.
    pub fallback_reason: Option<String>,
    /// What other providers run; `None` if the selected one runs everything.
    pub partial_fallback: Option<PartialFallback>,
}

/// Operations that other providers run, because the selected one does not support them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialFallback {
    /// Which operations, by graph and provider.
    pub operations: String,
    /// Whether some graph spends more than half of its time on them.
    pub is_majority: bool,
}

/// Tries the candidates in order and selects the first that works.
///
/// `attempt` loads the model with a candidate, runs it, and returns the profile of each graph. For the CPU, which runs
/// everything, it may return none. A candidate that ran no operation of some graph has failed.
///
/// If all candidates fail and the CPU was among them, the error is the CPU's, because a model that no provider can run
/// is broken. Else it is an [`OnnxError::Provider`] with the reason of every candidate.
pub fn select<T, E: WrapsOnnxError + From<OnnxError>>(
    candidates: &[Candidate],
    mut attempt: impl FnMut(Candidate) -> Result<(T, Vec<GraphProfile>), E>,
) -> Result<Selection<T>, E> {
    let mut reasons: Vec<(Candidate, String)> = Vec::new();
    for &candidate in candidates {
        let reason = match attempt(candidate) {
            Ok((value, profiles)) => match idle_graph(candidate, &profiles) {
                None => {
                    let partial_fallback = partial_fallback(candidate, &profiles);
                    let fallback_reason = join(&reasons);
                    return Ok(Selection { value, candidate, fallback_reason, partial_fallback });
                }
                Some(reason) => reason,
            },
            Err(error) if candidate == Candidate::Cpu => return Err(error),
            Err(error) => match error.as_onnx() {
                // The candidate's name, which the error has too, is put before the reason below.
                Some(OnnxError::Provider { reason, .. }) => reason.clone(),
                _ => error.to_string(),
            },
        };
        reasons.push((candidate, reason));
    }
    let error = match reasons.split_first() {
        Some(((first, reason), rest)) => {
            let reason = match join(rest) {
                Some(others) => format!("{reason}; {others}"),
                None => reason.clone(),
            };
            OnnxError::Provider { provider: first.name(), reason }
        }
        None => OnnxError::Provider {
            provider: Candidate::Cpu.name(),
            reason: "a GPU is required, but the execution provider is cpu".into(),
        },
    };
    Err(error.into())
}

fn join(reasons: &[(Candidate, String)]) -> Option<String> {
    let each = reasons.iter().map(|(candidate, reason)| format!("{}: {reason}", candidate.name()));
    each.reduce(|all, one| format!("{all}; {one}"))
}

/// Why a candidate counts as failed although it loaded and ran: it ran no operation of some graph.
fn idle_graph(candidate: Candidate, profiles: &[GraphProfile]) -> Option<String> {
    if candidate == Candidate::Cpu {
        return None;
    }
    let graph = profiles.iter().find(|graph| !graph.providers.contains_key(candidate.name()))?;
    let operations: usize = graph.providers.values().flat_map(|provider| provider.operations.values()).sum();
    let others: Vec<&str> = graph.providers.keys().map(String::as_str).collect();
    Some(match others[..] {
        [] => format!("ONNX Runtime's profile of the probe run shows no operation of {}", graph.graph),
        _ => format!(
            "it ran none of the {operations} operations of {}; they ran on {}",
            graph.graph,
            others.join(" and ")
        ),
    })
}

/// Kinds of operations that a message names for each provider.
const MAX_KINDS: usize = 5;

fn partial_fallback(candidate: Candidate, profiles: &[GraphProfile]) -> Option<PartialFallback> {
    let mut operations = Vec::new();
    let mut is_majority = false;
    for graph in profiles {
        let all: f64 = graph.providers.values().map(|provider| provider.microseconds).sum();
        let mut others = 0.0;
        for (name, provider) in graph.providers.iter().filter(|(name, _)| *name != candidate.name()) {
            others += provider.microseconds;
            let mut kinds: Vec<(&str, usize)> =
                provider.operations.iter().map(|(kind, &count)| (kind.as_str(), count)).collect();
            kinds.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
            let more = if kinds.len() > MAX_KINDS { ", …" } else { "" };
            let kinds: Vec<String> =
                kinds.iter().take(MAX_KINDS).map(|(kind, count)| format!("{count} {kind}")).collect();
            // The run may have been too short to measure.
            let percent = if all > 0.0 { 100.0 * provider.microseconds / all } else { 0.0 };
            operations.push(format!(
                "{name} runs {}{more} of {} ({percent:.0} % of its time)",
                kinds.join(", "),
                graph.graph
            ));
        }
        is_majority |= 2.0 * others > all;
    }
    (!operations.is_empty()).then(|| PartialFallback { operations: operations.join("; "), is_majority })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::onnx::profile::ProviderProfile;
    use crate::onnx::{ExecutionProvider, Result, SessionOptions};

    /// How a provider of the fake machine behaves.
    #[derive(Clone, Copy)]
    enum Fake {
        /// ONNX Runtime does not register it.
        Missing(&'static str),
        /// It loads the model, and then fails.
        Breaks(&'static str),
        /// It runs this fraction of the graph's time, the CPU the rest.
        Runs(f64),
        /// It is registered and runs, but every operation falls back to this provider.
        Idle(&'static str),
        /// It runs the image encoder, but no operation of the text encoder.
        HalfIdle,
    }

    const CPU: &str = "CPUExecutionProvider";
    const CUDA: &str = "CUDAExecutionProvider";
    const TENSORRT: &str = "TensorrtExecutionProvider";

    /// The selection if CUDA is the only candidate.
    fn cuda(attempt: impl FnMut(Candidate) -> Result<((), Vec<GraphProfile>)>) -> Result<Selection<()>> {
        select(&[Candidate::Cuda], attempt)
    }

    fn profile(graph: &str, shares: &[(&str, &str, f64)]) -> GraphProfile {
        let mut providers: BTreeMap<String, ProviderProfile> = BTreeMap::new();
        for &(provider, kind, microseconds) in shares.iter().filter(|(.., microseconds)| *microseconds > 0.0)
        {
            let provider = providers.entry(provider.into()).or_default();
            *provider.operations.entry(kind.into()).or_default() += 1;
            provider.microseconds += microseconds;
        }
        GraphProfile { graph: graph.into(), providers }
    }

    /// The selection on a machine with these providers, and the candidates that were tried. Its value is the
    /// candidate's name.
    fn selection(
        machine: &[(&str, Fake)],
        provider: ExecutionProvider,
        require_gpu: bool,
    ) -> (Result<Selection<&'static str>>, Vec<&'static str>) {
        let options = SessionOptions { provider, require_gpu, ..SessionOptions::default() };
        let mut tried = Vec::new();
        let selection = select(&options.candidates(), |candidate| {
            let name = candidate.name();
            tried.push(name);
            let fake = machine.iter().find(|(provider, _)| *provider == name).map(|(_, fake)| *fake);
            match fake {
                None if candidate == Candidate::Cpu => Ok((name, Vec::new())),
                None => Err(OnnxError::Provider { provider: name, reason: "not in this build".into() }),
                Some(Fake::Missing(reason)) => {
                    Err(OnnxError::Provider { provider: name, reason: reason.into() })
                }
                Some(Fake::Breaks(reason)) => Err(OnnxError::inference(reason)),
                Some(Fake::Runs(part)) => {
                    let shares = [(name, "MatMul", 100.0 * part), (CPU, "Shape", 100.0 - 100.0 * part)];
                    Ok((name, vec![profile("model.onnx", &shares)]))
                }
                Some(Fake::Idle(other)) => {
                    let shares = [(other, "MatMul", 1.0), (other, "Shape", 1.0), (other, "Shape", 1.0)];
                    Ok((name, vec![profile("model.onnx", &shares)]))
                }
                Some(Fake::HalfIdle) => {
                    let image = profile("vision_model.onnx", &[(name, "MatMul", 1.0)]);
                    Ok((name, vec![image, profile("text_model.onnx", &[(CPU, "MatMul", 1.0)])]))
                }
            }
        });
        (selection, tried)
    }

    /// The selected provider, and why others are not used.
    fn selected(machine: &[(&str, Fake)], provider: ExecutionProvider) -> (&'static str, Option<String>) {
        let selection = selection(machine, provider, false).0.unwrap();
        assert_eq!(selection.value, selection.candidate.name());
        (selection.value, selection.fallback_reason)
    }

    fn refused(machine: &[(&str, Fake)], provider: ExecutionProvider) -> String {
        selection(machine, provider, true).0.unwrap_err().to_string()
    }

    use ExecutionProvider::{Auto, Cpu, Cuda, OpenVino, TensorRt};

    #[test]
    fn the_first_that_works_is_taken_and_no_other_is_tried() {
        let both = [(TENSORRT, Fake::Runs(1.0)), (CUDA, Fake::Runs(1.0))];
        assert_eq!(selection(&both, TensorRt, false).1, [TENSORRT]);
        for provider in [Auto, Cuda] {
            assert_eq!(selection(&both, provider, false).1, [CUDA]);
            assert_eq!(selected(&both, provider), (CUDA, None));
        }
        // A GPU that was not asked for is not used.
        assert_eq!(selection(&both, Cpu, false).1, [CPU]);
        assert_eq!(selected(&both, Cpu), (CPU, None));
    }

    #[test]
    fn a_failed_provider_is_skipped_with_its_reason() {
        let missing = [(CUDA, Fake::Missing("no driver"))];
        assert_eq!(selected(&missing, Auto), (CPU, Some(format!("{CUDA}: no driver"))));
        let breaks = [(CUDA, Fake::Breaks("out of memory"))];
        assert_eq!(selected(&breaks, Cuda), (CPU, Some(format!("{CUDA}: inference failed: out of memory"))));
        let cuda_alone = [(TENSORRT, Fake::Missing("no library")), (CUDA, Fake::Runs(1.0))];
        assert_eq!(selected(&cuda_alone, TensorRt), (CUDA, Some(format!("{TENSORRT}: no library"))));
        let none = [(TENSORRT, Fake::Missing("no library")), (CUDA, Fake::Breaks("no memory"))];
        let reasons = format!("{TENSORRT}: no library; {CUDA}: inference failed: no memory");
        assert_eq!(selected(&none, TensorRt), (CPU, Some(reasons)));
    }

    #[test]
    fn a_provider_that_runs_nothing_has_failed() {
        let idle = [(CUDA, Fake::Idle(CPU))];
        let reason = format!("it ran none of the 3 operations of model.onnx; they ran on {CPU}");
        assert_eq!(selected(&idle, Auto), (CPU, Some(format!("{CUDA}: {reason}"))));
        assert_eq!(refused(&idle, Cuda), format!("cannot use {CUDA}: {reason}"));
        // TensorRT's candidate includes CUDA, but what CUDA runs does not count for TensorRT.
        let beside = [(TENSORRT, Fake::Idle(CUDA)), (CUDA, Fake::Runs(1.0))];
        let (provider, reason) = selected(&beside, TensorRt);
        assert_eq!(provider, CUDA);
        assert!(reason.unwrap().ends_with(&format!("they ran on {CUDA}")));
        // Every graph counts.
        let (provider, reason) = selected(&[(CUDA, Fake::HalfIdle)], Auto);
        assert_eq!(provider, CPU);
        assert!(reason.unwrap().contains("none of the 1 operations of text_model.onnx"));
    }

    #[test]
    fn a_profile_that_shows_nothing_is_no_proof() {
        let nothing = cuda(|_| Ok(((), vec![profile("model.onnx", &[])])));
        assert!(nothing.unwrap_err().to_string().contains("shows no operation of model.onnx"));
    }

    #[test]
    fn a_required_gpu_is_never_replaced_by_the_cpu() {
        let works = [(CUDA, Fake::Runs(1.0))];
        for provider in [Auto, Cuda, TensorRt] {
            assert_eq!(selection(&works, provider, true).0.unwrap().value, CUDA);
        }
        assert_eq!(
            refused(&works, Cpu),
            format!("cannot use {CPU}: a GPU is required, but the execution provider is cpu")
        );
        for provider in [Auto, Cuda] {
            let (refusal, tried) = selection(&[], provider, true);
            assert_eq!(tried, [CUDA]);
            assert_eq!(refusal.unwrap_err().to_string(), format!("cannot use {CUDA}: not in this build"));
        }
        let two = [(TENSORRT, Fake::Missing("no library")), (CUDA, Fake::Missing("no driver"))];
        assert_eq!(refused(&two, TensorRt), format!("cannot use {TENSORRT}: no library; {CUDA}: no driver"));
    }

    #[test]
    fn a_model_that_the_cpu_cannot_run_is_broken() {
        let broken = [(CUDA, Fake::Missing("no driver")), (CPU, Fake::Breaks("no such operation"))];
        let error = selection(&broken, Auto, false).0.unwrap_err();
        assert_eq!(error, OnnxError::inference("no such operation"));
    }

    #[test]
    fn openvino_is_the_cpu_unless_a_gpu_is_required() {
        let options = |require_gpu| SessionOptions { provider: OpenVino, require_gpu, ..Default::default() };
        assert_eq!(options(false).candidates(), [Candidate::OpenVinoCpu, Candidate::Cpu]);
        assert_eq!(options(true).candidates(), [Candidate::OpenVinoGpu]);
    }

    #[test]
    fn a_partial_fallback_is_reported() {
        let fallback = |part| selection(&[(CUDA, Fake::Runs(part))], Auto, false).0.unwrap().partial_fallback;
        assert_eq!(fallback(1.0), None);
        let some = fallback(0.9).unwrap();
        assert_eq!(some.operations, format!("{CPU} runs 1 Shape of model.onnx (10 % of its time)"));
        assert!(!some.is_majority);
        assert!(fallback(0.4).unwrap().is_majority);
        // One graph is enough.
        let two = |_| {
            let text = profile("text.onnx", &[(CUDA, "Add", 1.0), (CPU, "MatMulInteger", 9.0)]);
            Ok(((), vec![profile("vision.onnx", &[(CUDA, "Conv", 100.0)]), text]))
        };
        let fallback = cuda(two).unwrap().partial_fallback.unwrap();
        assert_eq!(
            fallback.operations,
            format!("{CPU} runs 1 MatMulInteger of text.onnx (90 % of its time)")
        );
        assert!(fallback.is_majority);
        // The most frequent kinds come first, and only the first five are named.
        let kinds = ["a", "b", "c", "d", "e", "f", "f"].map(|kind| (CPU, kind, 1.0));
        let many = |_| Ok(((), vec![profile("m.onnx", &[&kinds[..], &[(CUDA, "g", 93.0)]].concat())]));
        let found = cuda(many).unwrap().partial_fallback.unwrap().operations;
        assert_eq!(found, format!("{CPU} runs 2 f, 1 a, 1 b, 1 c, 1 d, … of m.onnx (7 % of its time)"));
    }
}
