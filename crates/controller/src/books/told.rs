//! What a replica was told, and what it has confirmed of that.

/// Something that a replica is told: what it has confirmed, and what is on its way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told<T> {
    /// `None` after a restart of the controller, which cannot know.
    confirmed: Option<T>,
    sent: Option<(u64, T)>,
}

impl<T: Clone + PartialEq> Told<T> {
    pub(crate) const fn known(value: T) -> Self {
        Self {
            confirmed: Some(value),
            sent: None,
        }
    }

    pub(crate) const fn unknown() -> Self {
        Self {
            confirmed: None,
            sent: None,
        }
    }

    /// Whether the newest that it was told is another, or not known.
    pub(crate) fn needs(&self, wanted: &T) -> bool {
        self.sent().or(self.confirmed.as_ref()) != Some(wanted)
    }

    /// Whether it has confirmed this and was told nothing since.
    pub(crate) fn is(&self, wanted: &T) -> bool {
        self.is_settled() && !self.needs(wanted)
    }

    pub(crate) fn sent(&self) -> Option<&T> {
        self.sent.as_ref().map(|(_, value)| value)
    }

    pub(crate) const fn on_its_way(&self) -> bool {
        self.sent.is_some()
    }

    pub(crate) const fn is_settled(&self) -> bool {
        self.sent.is_none() && self.confirmed.is_some()
    }

    pub(crate) fn send(&mut self, id: u64, value: T) {
        self.sent = Some((id, value));
    }

    /// Takes the answer `id`. Returns what it is about; `None` when nobody waits for it.
    pub(crate) fn answered(&mut self, id: u64, fine: bool) -> Option<Answered<T>> {
        let (_, value) = self.sent.take_if(|(sent, _)| *sent == id)?;
        let news = self.confirmed.as_ref() != Some(&value);
        if fine {
            self.confirmed = Some(value.clone());
        }
        Some(Answered { value, news })
    }
}

/// An answer that was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered<T> {
    pub(crate) value: T,
    /// It is another than was confirmed before.
    pub(crate) news: bool,
}
