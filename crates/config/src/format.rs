/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.1, as `PyYAML`'s `SafeLoader` reads it.
    Yaml,
    Json,
}
