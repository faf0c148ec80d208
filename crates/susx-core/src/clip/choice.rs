//! Which execution provider a model gets: the first of the candidates that really runs it.

use super::error::{ClipError, Result};
use super::profile::Executed;
use super::provider::Candidate;

/// A candidate that runs the model.
#[derive(Debug)]
pub(crate) struct Choice<T> {
    /// What the attempt made.
    pub value: T,
    pub candidate: Candidate,
    /// Why the candidates before it are not used; `None` if there are none.
    pub passed_over: Option<String>,
    pub elsewhere: Option<Elsewhere>,
}

/// What other providers than the chosen one run of the model, because it does not know these operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Which operations, by graph and provider.
    pub what: String,
    /// A graph spends more than half of its time on them.
    pub is_most: bool,
}

/// Tries one candidate after the other until one works.
///
/// `attempt` loads the model with a candidate, runs it and tells what ONNX Runtime executed, graph by
/// graph; for the CPU, which runs everything, that may be nothing. A candidate that ran no operation
/// of some graph has failed.
///
/// If all fail, the error is the CPU's where it was tried, for what no provider can run is the model's
/// fault; else it has the reason of every candidate.
pub(crate) fn choose<T>(
    candidates: &[Candidate],
    mut attempt: impl FnMut(Candidate) -> Result<(T, Vec<Executed>)>,
) -> Result<Choice<T>> {
    let mut reasons: Vec<(Candidate, String)> = Vec::new();
    for &candidate in candidates {
        let reason = match attempt(candidate) {
            Ok((value, executed)) => match idle(candidate, &executed) {
                None => {
                    let elsewhere = elsewhere(candidate, &executed);
                    return Ok(Choice { value, candidate, passed_over: join(&reasons), elsewhere });
                }
                Some(reason) => reason,
            },
            Err(error) if candidate == Candidate::Cpu => return Err(error),
            Err(ClipError::Provider { reason, .. }) => reason,
            Err(other) => other.to_string(),
        };
        reasons.push((candidate, reason));
    }
    Err(match reasons.split_first() {
        Some(((first, reason), rest)) => {
            let reason = match join(rest) {
                Some(others) => format!("{reason}; {others}"),
                None => reason.clone(),
            };
            ClipError::Provider { provider: first.name(), reason }
        }
        None => ClipError::Provider {
            provider: Candidate::Cpu.name(),
            reason: "a GPU is required, but the execution provider is cpu".into(),
        },
    })
}

fn join(reasons: &[(Candidate, String)]) -> Option<String> {
    let each = reasons.iter().map(|(candidate, reason)| format!("{}: {reason}", candidate.name()));
    each.reduce(|all, one| format!("{all}; {one}"))
}

/// Why a candidate that loaded and ran counts as failed all the same.
fn idle(candidate: Candidate, executed: &[Executed]) -> Option<String> {
    if candidate == Candidate::Cpu {
        return None;
    }
    let graph = executed.iter().find(|graph| !graph.providers.contains_key(candidate.name()))?;
    let operations: usize = graph.providers.values().flat_map(|share| share.operations.values()).sum();
    let others: Vec<&str> = graph.providers.keys().map(String::as_str).collect();
    Some(match others[..] {
        [] => format!("ONNX Runtime's profile of the probe run shows no operation of {}", graph.graph),
        _ => format!(
            "it ran none of the {operations} operations of {}, which fell to {}",
            graph.graph,
            others.join(" and ")
        ),
    })
}

/// The kinds of operations that a message names for each provider.
const KINDS: usize = 5;

fn elsewhere(candidate: Candidate, executed: &[Executed]) -> Option<Elsewhere> {
    let mut what = Vec::new();
    let mut is_most = false;
    for graph in executed {
        let all: f64 = graph.providers.values().map(|share| share.microseconds).sum();
        let mut others = 0.0;
        for (provider, share) in graph.providers.iter().filter(|(name, _)| *name != candidate.name()) {
            others += share.microseconds;
            let mut kinds: Vec<(&str, usize)> =
                share.operations.iter().map(|(kind, &count)| (kind.as_str(), count)).collect();
            kinds.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
            let more = if kinds.len() > KINDS { ", …" } else { "" };
            let kinds: Vec<String> =
                kinds.iter().take(KINDS).map(|(kind, count)| format!("{count} {kind}")).collect();
            // A run of no measurable time has nothing to divide.
            let percent = if all > 0.0 { 100.0 * share.microseconds / all } else { 0.0 };
            what.push(format!(
                "{provider} runs {}{more} of {} ({percent:.0} % of its time)",
                kinds.join(", "),
                graph.graph
            ));
        }
        is_most |= 2.0 * others > all;
    }
    (!what.is_empty()).then(|| Elsewhere { what: what.join("; "), is_most })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clip::profile::Share;
    use crate::clip::provider::{ExecutionProvider, SessionOptions};

    /// What a provider of the fake machine does with a model.
    #[derive(Clone, Copy)]
    enum Fake {
        /// ONNX Runtime does not register it.
        Missing(&'static str),
        /// It loads the model, and then fails.
        Breaks(&'static str),
        /// It runs this share of the time of the graph, the CPU the rest.
        Runs(f64),
        /// It is registered and runs, but every operation falls to this other.
        Idle(&'static str),
        /// It runs the image encoder, and nothing of the text encoder.
        HalfIdle,
    }

    const CPU: &str = "CPUExecutionProvider";
    const CUDA: &str = "CUDAExecutionProvider";
    const TENSORRT: &str = "TensorrtExecutionProvider";

    fn executed(graph: &str, shares: &[(&str, &str, f64)]) -> Executed {
        let mut providers: BTreeMap<String, Share> = BTreeMap::new();
        for &(provider, kind, microseconds) in shares.iter().filter(|(.., microseconds)| *microseconds > 0.0)
        {
            let share = providers.entry(provider.into()).or_default();
            *share.operations.entry(kind.into()).or_default() += 1;
            share.microseconds += microseconds;
        }
        Executed { graph: graph.into(), providers }
    }

    /// The choice on a machine with these providers, for these settings; the value is the candidate's name.
    fn choice(
        machine: &[(&str, Fake)],
        provider: ExecutionProvider,
        require_gpu: bool,
    ) -> (Result<Choice<&'static str>>, Vec<&'static str>) {
        let options = SessionOptions { provider, require_gpu, ..SessionOptions::default() };
        let mut tried = Vec::new();
        let choice = choose(&options.candidates(), |candidate| {
            let name = candidate.name();
            tried.push(name);
            let fake = machine.iter().find(|(provider, _)| *provider == name).map(|(_, fake)| *fake);
            match fake {
                None if candidate == Candidate::Cpu => Ok((name, Vec::new())),
                None => Err(ClipError::Provider { provider: name, reason: "not in this build".into() }),
                Some(Fake::Missing(reason)) => {
                    Err(ClipError::Provider { provider: name, reason: reason.into() })
                }
                Some(Fake::Breaks(reason)) => Err(ClipError::inference(reason)),
                Some(Fake::Runs(part)) => {
                    let shares = [(name, "MatMul", 100.0 * part), (CPU, "Shape", 100.0 - 100.0 * part)];
                    Ok((name, vec![executed("model.onnx", &shares)]))
                }
                Some(Fake::Idle(other)) => {
                    let shares = [(other, "MatMul", 1.0), (other, "Shape", 1.0), (other, "Shape", 1.0)];
                    Ok((name, vec![executed("model.onnx", &shares)]))
                }
                Some(Fake::HalfIdle) => {
                    let image = executed("vision_model.onnx", &[(name, "MatMul", 1.0)]);
                    Ok((name, vec![image, executed("text_model.onnx", &[(CPU, "MatMul", 1.0)])]))
                }
            }
        });
        (choice, tried)
    }

    /// The chosen provider and why others are not used.
    fn chosen(machine: &[(&str, Fake)], provider: ExecutionProvider) -> (&'static str, Option<String>) {
        let choice = choice(machine, provider, false).0.unwrap();
        assert_eq!(choice.value, choice.candidate.name());
        (choice.value, choice.passed_over)
    }

    fn refused(machine: &[(&str, Fake)], provider: ExecutionProvider) -> String {
        choice(machine, provider, true).0.unwrap_err().to_string()
    }

    use ExecutionProvider::{Auto, Cpu, Cuda, OpenVino, TensorRt};

    #[test]
    fn the_first_that_works_is_taken_and_no_other_is_tried() {
        let both = [(TENSORRT, Fake::Runs(1.0)), (CUDA, Fake::Runs(1.0))];
        assert_eq!(choice(&both, TensorRt, false).1, [TENSORRT]);
        for provider in [Auto, Cuda] {
            assert_eq!(choice(&both, provider, false).1, [CUDA]);
            assert_eq!(chosen(&both, provider), (CUDA, None));
        }
        // A GPU that is there but was not asked for stays alone.
        assert_eq!(choice(&both, Cpu, false).1, [CPU]);
        assert_eq!(chosen(&both, Cpu), (CPU, None));
    }

    #[test]
    fn what_fails_is_passed_over_with_its_reason() {
        let missing = [(CUDA, Fake::Missing("no driver"))];
        assert_eq!(chosen(&missing, Auto), (CPU, Some(format!("{CUDA}: no driver"))));
        let breaks = [(CUDA, Fake::Breaks("out of memory"))];
        assert_eq!(chosen(&breaks, Cuda), (CPU, Some(format!("{CUDA}: inference failed: out of memory"))));
        let cuda_alone = [(TENSORRT, Fake::Missing("no library")), (CUDA, Fake::Runs(1.0))];
        assert_eq!(chosen(&cuda_alone, TensorRt), (CUDA, Some(format!("{TENSORRT}: no library"))));
        let none = [(TENSORRT, Fake::Missing("no library")), (CUDA, Fake::Breaks("no memory"))];
        let reasons = format!("{TENSORRT}: no library; {CUDA}: inference failed: no memory");
        assert_eq!(chosen(&none, TensorRt), (CPU, Some(reasons)));
    }

    #[test]
    fn a_provider_that_runs_nothing_has_failed() {
        let idle = [(CUDA, Fake::Idle(CPU))];
        let reason = format!("it ran none of the 3 operations of model.onnx, which fell to {CPU}");
        assert_eq!(chosen(&idle, Auto), (CPU, Some(format!("{CUDA}: {reason}"))));
        assert_eq!(refused(&idle, Cuda), format!("cannot use {CUDA}: {reason}"));
        // TensorRT's candidate has CUDA beside it, and that is CUDA's merit.
        let beside = [(TENSORRT, Fake::Idle(CUDA)), (CUDA, Fake::Runs(1.0))];
        let (provider, passed_over) = chosen(&beside, TensorRt);
        assert_eq!(provider, CUDA);
        assert!(passed_over.unwrap().ends_with(&format!("which fell to {CUDA}")));
        // Each encoder counts.
        let (provider, passed_over) = chosen(&[(CUDA, Fake::HalfIdle)], Auto);
        assert_eq!(provider, CPU);
        assert!(passed_over.unwrap().contains("none of the 1 operations of text_model.onnx"));
    }

    #[test]
    fn a_profile_that_shows_nothing_is_no_proof() {
        let nothing = choose(&[Candidate::Cuda], |_| Ok(((), vec![executed("model.onnx", &[])])));
        assert!(nothing.unwrap_err().to_string().contains("shows no operation of model.onnx"));
    }

    #[test]
    fn a_required_gpu_is_never_replaced_by_the_cpu() {
        let works = [(CUDA, Fake::Runs(1.0))];
        for provider in [Auto, Cuda, TensorRt] {
            assert_eq!(choice(&works, provider, true).0.unwrap().value, CUDA);
        }
        assert_eq!(
            refused(&works, Cpu),
            format!("cannot use {CPU}: a GPU is required, but the execution provider is cpu")
        );
        for provider in [Auto, Cuda] {
            let (refusal, tried) = choice(&[], provider, true);
            assert_eq!(tried, [CUDA]);
            assert_eq!(refusal.unwrap_err().to_string(), format!("cannot use {CUDA}: not in this build"));
        }
        let two = [(TENSORRT, Fake::Missing("no library")), (CUDA, Fake::Missing("no driver"))];
        assert_eq!(refused(&two, TensorRt), format!("cannot use {TENSORRT}: no library; {CUDA}: no driver"));
    }

    #[test]
    fn what_the_cpu_cannot_run_is_the_models_fault() {
        let broken = [(CUDA, Fake::Missing("no driver")), (CPU, Fake::Breaks("no such operation"))];
        let error = choice(&broken, Auto, false).0.unwrap_err();
        assert_eq!(error, ClipError::inference("no such operation"));
    }

    #[test]
    fn openvino_is_the_cpu_unless_a_gpu_is_required() {
        let options = |require_gpu| SessionOptions { provider: OpenVino, require_gpu, ..Default::default() };
        assert_eq!(options(false).candidates(), [Candidate::OpenVinoCpu, Candidate::Cpu]);
        assert_eq!(options(true).candidates(), [Candidate::OpenVinoGpu]);
    }

    #[test]
    fn what_runs_elsewhere_is_told() {
        let elsewhere = |part| choice(&[(CUDA, Fake::Runs(part))], Auto, false).0.unwrap().elsewhere;
        assert_eq!(elsewhere(1.0), None);
        let some = elsewhere(0.9).unwrap();
        assert_eq!(some.what, format!("{CPU} runs 1 Shape of model.onnx (10 % of its time)"));
        assert!(!some.is_most);
        assert!(elsewhere(0.4).unwrap().is_most);
        // One graph that suffers is enough.
        let two = |_| {
            let text = executed("text.onnx", &[(CUDA, "Add", 1.0), (CPU, "MatMulInteger", 9.0)]);
            Ok(((), vec![executed("vision.onnx", &[(CUDA, "Conv", 100.0)]), text]))
        };
        let elsewhere = choose(&[Candidate::Cuda], two).unwrap().elsewhere.unwrap();
        assert_eq!(elsewhere.what, format!("{CPU} runs 1 MatMulInteger of text.onnx (90 % of its time)"));
        assert!(elsewhere.is_most);
        // The most frequent kinds come first, and of many the rest is left out.
        let kinds = ["a", "b", "c", "d", "e", "f", "f"].map(|kind| (CPU, kind, 1.0));
        let many = |_| Ok(((), vec![executed("m.onnx", &[&kinds[..], &[(CUDA, "g", 93.0)]].concat())]));
        let what = choose(&[Candidate::Cuda], many).unwrap().elsewhere.unwrap().what;
        assert_eq!(what, format!("{CPU} runs 2 f, 1 a, 1 b, 1 c, 1 d, … of m.onnx (7 % of its time)"));
    }
}
