//! Whether this node has the `ticket_key` of the other nodes. Pure: what each renewal shows, and what follows.

/// The living nodes by their `ticket_key`, as the last renewal shows them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sight {
    /// Nodes with another key; those that drain do not count.
    pub(super) others: u32,
    /// Whether no node can be missing.
    pub(super) is_complete: bool,
}

/// Where this node stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Standing {
    /// No renewal has shown the others since it joined.
    #[default]
    Unknown,
    /// It was the first one, or the others had its key when it joined.
    Member,
    /// Others with another key were there first: it must get no traffic.
    Stranger,
}

/// What is logged for operators.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum News {
    /// This node has another key than the others.
    Stranger,
    /// It had, and they are gone.
    Member,
    /// A node with another key has joined.
    StrangerJoined,
}

/// The standing of this node, and what it saw last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TicketKeys {
    standing: Standing,
    others: u32,
}

impl TicketKeys {
    pub(super) fn standing(self) -> Standing {
        self.standing
    }

    /// The living nodes with another key.
    pub(super) fn others(self) -> u32 {
        self.others
    }

    /// Takes what a renewal shows. One of two nodes that start together sees the other one, so never both are strangers.
    pub(super) fn hear(&mut self, sight: Sight) -> Option<News> {
        let others_before = std::mem::replace(&mut self.others, sight.others);
        let before = self.standing;
        self.standing = match before {
            Standing::Unknown | Standing::Stranger if sight.others > 0 => Standing::Stranger,
            // Redis may have lost those that were there.
            Standing::Stranger if !sight.is_complete => Standing::Stranger,
            _ => Standing::Member,
        };
        match (before, self.standing) {
            (Standing::Stranger, Standing::Member) => Some(News::Member),
            (Standing::Unknown, Standing::Stranger) => Some(News::Stranger),
            (_, Standing::Member) if sight.others > others_before => Some(News::StrangerJoined),
            _ => None,
        }
    }

    /// This node joins anew.
    pub(super) fn begin_again(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sees(others: u32) -> Sight {
        Sight { others, is_complete: true }
    }

    #[test]
    fn the_one_that_comes_later_is_the_stranger_until_the_others_have_gone() {
        let (mut first, mut later) = (TicketKeys::default(), TicketKeys::default());
        assert_eq!((first.hear(sees(0)), first.standing()), (None, Standing::Member));
        assert_eq!((later.hear(sees(1)), later.standing()), (Some(News::Stranger), Standing::Stranger));
        assert_eq!((first.hear(sees(1)), first.standing()), (Some(News::StrangerJoined), Standing::Member));
        assert_eq!((first.hear(sees(1)), later.hear(sees(1))), (None, None), "it is logged once");

        assert_eq!(later.hear(sees(2)), None);
        assert_eq!((later.hear(sees(0)), later.standing()), (Some(News::Member), Standing::Member));
        assert_eq!(later.hear(sees(1)), Some(News::StrangerJoined));
    }

    #[test]
    fn what_redis_has_lost_makes_no_member() {
        let mut later = TicketKeys::default();
        later.hear(sees(1));
        assert_eq!((later.hear(Sight::default()), later.standing()), (None, Standing::Stranger));
        assert_eq!((later.hear(sees(0)), later.standing()), (Some(News::Member), Standing::Member));
    }

    #[test]
    fn a_node_that_was_away_for_too_long_is_judged_anew() {
        let mut node = TicketKeys::default();
        node.hear(sees(0));
        node.begin_again();
        assert_eq!((node.hear(sees(3)), node.standing(), node.others()), (Some(News::Stranger), Standing::Stranger, 3));
    }
}
