//! Arguments as written, and as used.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use wickie_model::{ResourceKind, ResourceName};

use super::logging::LogFormat;
use super::target::Target;
use super::{
    CliError, build, diff, doctor, events, history, install, permit, reconcile, release, rollback, run, status,
    suspend, tree, uninstall, verify,
};
use crate::cluster::{ConnectError, Connection};
use crate::config::DEFAULT_NAMESPACE;
use crate::store::DataDir;

/// Keeps a Kubernetes cluster at the state that signed Git commits describe, also when it is cut off.
#[derive(Debug, Parser)]
#[command(
    name = "wickie",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 differs or not ready."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// The agent's data directory; it also tells which agent to talk to
    #[arg(long, global = true, value_name = "DIR", env = "WICKIE_DATA_DIR", default_value = "/var/lib/wickie")]
    data_dir: PathBuf,

    /// The namespace of the objects that are named, or that are shown
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// How answers are written; `build` takes a file or a folder too
    #[arg(short, long, global = true, value_parser = OutputParser, default_value = "table", value_name = "FORM")]
    output: Output,

    /// How log lines are written
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,

    /// Say more; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The agent itself
    Run(run::Args),
    /// How everything stands
    Status(status::Args),
    /// Do it now, and wait for the outcome
    Reconcile(reconcile::Args),
    /// Leave something alone until it is resumed
    Suspend(suspend::Args),
    /// Go on with what was suspended
    Resume(suspend::ResumeArgs),
    /// Put an earlier revision back, until a newer commit comes
    Rollback(rollback::Args),
    /// Why each revision of a Kustomization ended, and how its runs did, the newest first
    History(history::Args),
    /// What a Kustomization has put into the cluster, and what is wrong with it
    Tree(tree::Args),
    /// What happened, the newest last
    Events(events::Args),
    /// What a run would change now
    Diff(diff::Args),
    /// Build a kustomization on disk, as `kustomize build` does
    Build(build::Args),
    /// Who signed what, and is it to be believed
    Verify(verify::Args),
    /// Leave for a step back in history
    Permit(permit::Args),
    /// Hand back what is kept, to Flux or to nobody; nothing is made again, no value changes
    Release(release::Args),
    /// Hand everything back, and take away what wickie installed in the cluster; workloads go on running
    Uninstall(uninstall::Args),
    /// What keeps the agent from its work, or may one day, and what to do about it
    Doctor(doctor::Args),
    /// Print the manifests of an agent on every node, for `kubectl apply -f -` or for Git
    Install(install::Args),
    /// Print the CRDs, for `kubectl apply -f -`
    Crds,
    /// The version of this command, and of the agent where one runs
    Version,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document; its fields stay as they are.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What `-o` says.
#[derive(Clone, Debug)]
enum Output {
    Form(Format),
    /// Where to write, in the form that goes there.
    File(PathBuf),
}

/// The forms are proposed; anything else is a path.
#[derive(Clone)]
struct OutputParser;

impl TypedValueParser for OutputParser {
    type Value = Output;

    fn parse_ref(&self, _: &clap::Command, _: Option<&clap::Arg>, value: &OsStr) -> Result<Output, clap::Error> {
        let form = value.to_str().and_then(|text| Format::from_str(text, false).ok());
        Ok(form.map_or_else(|| Output::File(value.into()), Output::Form))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Format::value_variants().iter().filter_map(ValueEnum::to_possible_value)))
    }
}

/// Which Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Cluster {
    /// The kubeconfig file; without it KUBECONFIG, the service's credential, the pod's own account, the node's own files
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl Cluster {
    /// The API server that is meant; it is not asked yet.
    pub(super) async fn connect(&self) -> Result<crate::cluster::Cluster, CliError> {
        Ok(self.connect_to().await?.0)
    }

    /// The same, and its address.
    pub(super) async fn connect_to(&self) -> Result<(crate::cluster::Cluster, String), ConnectError> {
        // A second installation is refused, and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Self { kubeconfig, context } = self.clone();
        let (client, server) = Connection { kubeconfig, context }.client().await?;
        Ok((crate::cluster::Cluster::new(client), server))
    }
}

/// What every command goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which agent.
    pub data_dir: DataDir,
    /// The namespace that was asked for.
    pub namespace: Option<String>,
    /// How answers are written.
    pub format: Format,
    /// Where the answer goes instead of stdout.
    pub(super) file: Option<PathBuf>,
}

impl Cli {
    /// How to log, for [`super::start_logging`].
    pub fn logging(&self) -> (LogFormat, u8) {
        (self.log_format, self.verbose)
    }

    pub(super) fn settings(self) -> Result<(Command, Settings), CliError> {
        let (format, file) = match (self.output, &self.command) {
            (Output::Form(format), _) => (format, None),
            (Output::File(path), Command::Build(_)) => (Format::Yaml, Some(path)),
            (Output::File(path), _) => return Err(CliError::NoForm(path.display().to_string())),
        };
        let data_dir = DataDir::new(self.data_dir);
        Ok((self.command, Settings { data_dir, namespace: self.namespace, format, file }))
    }
}

impl Settings {
    /// The object that a target names; a bare name is a `kind`.
    pub(super) fn named(&self, target: &Target, kind: ResourceKind) -> wickie_model::Resource {
        let namespace = self.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        wickie_model::Resource::new(target.kind.unwrap_or(kind), ResourceName::new(namespace, &target.name))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        for line in ["wickie -n apps -o json --data-dir /d status", "wickie status -n apps -o json --data-dir /d"] {
            let (_, settings) = Cli::try_parse_from(line.split(' ')).unwrap().settings().unwrap();
            assert_eq!((settings.namespace.as_deref(), settings.format), (Some("apps"), Format::Json), "{line}");
            assert_eq!(settings.data_dir.path(), std::path::Path::new("/d"));
        }
    }

    #[test]
    fn only_a_build_is_written_to_a_file() {
        let settings = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().settings();
        let (_, built) = settings("wickie build x -o out.yaml").unwrap();
        assert_eq!(built.file.as_deref(), Some(std::path::Path::new("out.yaml")));
        assert_eq!(settings("wickie -o json build").unwrap().1.format, Format::Json);
        assert_eq!(settings("wickie status -o out.yaml").unwrap_err().exit(), super::super::Exit::Usage);
    }

    #[test]
    fn wrong_usage_is_exit_code_2() {
        assert_eq!(Cli::try_parse_from(["wickie", "reconcile"]).unwrap_err().exit_code(), 2);
        assert_eq!(Cli::try_parse_from(["wickie", "install"]).unwrap_err().exit_code(), 2);
        assert_eq!(Cli::try_parse_from(["wickie", "reconcile", "helm/x"]).unwrap_err().exit_code(), 2);
    }
}
