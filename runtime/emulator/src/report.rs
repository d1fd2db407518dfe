//! From what the machine saw to findings with files and lines.

use crate::build::Image;
use crate::machine::{Entry, Geometry, Place};
use crate::{Finding, Location, Side};

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

/// One finding for one defect at one line, however many instructions the compiler made of it.
fn merge(findings: Vec<Finding>) -> Vec<Finding> {
    let mut merged: Vec<Finding> = Vec::new();
    let other_line = |f: &Finding| f.other.as_ref().and_then(|o| o.at.clone());
    for finding in findings {
        let same = merged.iter_mut().find(|m| {
            m.at().is_some()
                && m.kind == finding.kind
                && m.at() == finding.at()
                && m.subject == finding.subject
                && other_line(m) == other_line(&finding)
        });
        match same {
            Some(known) => known.count += finding.count,
            None => merged.push(finding),
        }
    }
    merged
}
