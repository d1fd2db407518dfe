//! Turns the machine's journal into findings with files and lines.

use crate::build::Image;
use crate::machine::{Entry, Geometry, Place};
use crate::{Finding, FindingKind, Location, Side};

/// Finds the places of all entries, in order of place.
pub(crate) fn findings(image: &Image, geometry: &Geometry, entries: Vec<Entry>) -> Vec<Finding> {
    if entries.is_empty() {
        return Vec::new();
    }
    let lines = image.lines();
    let locate = |place: Place| -> Option<Location> {
        match place {
            Place::Nowhere => None,
            Place::Code(offset) => lines.as_ref()?.find(offset),
            Place::Site(site) => image.sites.get(site as usize).map(|s| s.at.clone()),
        }
    };
    let side = |(action, place, thread)| Side { action, at: locate(place), thread: geometry.thread(thread) };
    let mut findings: Vec<Finding> = entries
        .into_iter()
        .map(|e| Finding {
            kind: e.kind,
            subject: e.subject,
            element: e.element,
            place: None,
            side: e.side.map(side),
            other: e.other.map(side),
            message: e.message,
            advice: e.advice,
            count: e.count,
        })
        .collect();
    findings.sort_by(|a, b| (a.at(), a.kind).cmp(&(b.at(), b.kind)));
    merge(findings)
}

/// One finding for one defect, however many instructions the compiler made of a line and whichever side came first.
fn merge(findings: Vec<Finding>) -> Vec<Finding> {
    let mut merged: Vec<Finding> = Vec::new();
    for finding in findings {
        let same = |m: &&mut Finding| {
            let ours = (m.at(), m.other_at());
            m.kind == finding.kind
                && m.subject == finding.subject
                && ours.0.is_some()
                && (ours == (finding.at(), finding.other_at()) || ours == (finding.other_at(), finding.at()))
        };
        match merged.iter_mut().find(same) {
            Some(known) => known.count += finding.count,
            None => merged.push(finding),
        }
    }
    // A read that races with a later write also reads memory that nothing has written: both findings are one defect.
    let races: Vec<Finding> = merged.iter().filter(|f| f.kind == FindingKind::DataRace).cloned().collect();
    merged.retain(|f| {
        let raced =
            |r: &Finding| r.subject == f.subject && f.at().is_some() && (r.at() == f.at() || r.other_at() == f.at());
        f.kind != FindingKind::UninitialisedRead || !races.iter().any(raced)
    });
    merged
}
