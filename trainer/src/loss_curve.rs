//! The picture of training and validation loss.

use std::path::Path;

use cotangent_models::checkpoint::{CheckpointError, write_atomically};
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 520);
/// More points than this can no longer be distinguished: neighbours are averaged.
const MOST_POINTS: usize = 300;
const TRAINING: RGBColor = RGBColor(0x9a, 0xb8, 0xd8);
const SMOOTHED: RGBColor = RGBColor(0x1f, 0x5f, 0xa8);
const VALIDATION: RGBColor = RGBColor(0xd9, 0x5f, 0x02);

/// The losses of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LossCurve {
    training: Vec<(f64, f64)>,
    validation: Vec<(f64, f64)>,
}

impl LossCurve {
    /// Adds the loss of an iteration; what is not finite is left out.
    pub fn add_training(&mut self, iteration: usize, loss: f64) {
        if loss.is_finite() {
            self.training.push((iteration as f64, loss));
        }
    }

    /// Adds a validation loss after this number of iterations; one that is not finite is left out.
    pub fn add_validation(&mut self, iteration: usize, loss: f64) {
        if loss.is_finite() {
            self.validation.push((iteration as f64, loss));
        }
    }

    /// The curve through points of an iteration and a loss each.
    pub fn from_points(training: Vec<(f64, f64)>, validation: Vec<(f64, f64)>) -> Self {
        LossCurve { training, validation }
    }

    /// The points of training and of validation: iteration and loss.
    pub fn points(&self) -> [&[(f64, f64)]; 2] {
        [&self.training, &self.validation]
    }

    /// The first and last validation loss.
    pub fn validation_ends(&self) -> Option<(f64, f64)> {
        Some((self.validation.first()?.1, self.validation.last()?.1))
    }

    /// The curve as an SVG picture.
    ///
    /// # Errors
    /// If the picture cannot be drawn.
    pub fn to_svg(&self, title: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            self.draw(&area, title).map_err(|error| error.to_string())?;
            area.present().map_err(|error| error.to_string())?;
        }
        Ok(svg)
    }

    /// Writes the picture, atomically.
    ///
    /// # Errors
    /// If it cannot be drawn or written.
    pub fn write_svg(&self, file: &Path, title: &str) -> Result<(), CheckpointError> {
        let svg = self.to_svg(title).map_err(|error| CheckpointError::Io {
            file: file.to_owned(),
            source: std::io::Error::other(error.to_string()),
        })?;
        write_atomically(file, |out| out.write_all(svg.as_bytes()))
    }

    fn draw<'a, DB: DrawingBackend + 'a>(
        &self,
        area: &DrawingArea<DB, plotters::coord::Shift>,
        title: &str,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        area.fill(&WHITE)?;
        let all = || self.training.iter().chain(&self.validation);
        let last = all().map(|point| point.0).fold(1.0, f64::max);
        let highest = all().map(|point| point.1).fold(0.0, f64::max);
        let top = if highest > 0.0 { highest * 1.08 } else { 1.0 };
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 22))
            .margin(16)
            .x_label_area_size(46)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..last, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(0xe4, 0xe4, 0xe4))
            .x_desc("iteration")
            .y_desc("loss (nats per token)")
            .x_label_formatter(&|iteration| format!("{iteration:.0}"))
            .y_label_formatter(&|loss| format!("{loss:.2}"))
            .axis_desc_style(("sans-serif", 17))
            .label_style(("sans-serif", 15))
            .draw()?;

        let training = averaged(&self.training, MOST_POINTS);
        chart
            .draw_series(LineSeries::new(training, TRAINING.stroke_width(1)))?
            .label("training, each iteration")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 22, y)], TRAINING.stroke_width(2)));
        chart
            .draw_series(LineSeries::new(averaged(&self.training, MOST_POINTS / 10), SMOOTHED.stroke_width(3)))?
            .label("training, averaged")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 22, y)], SMOOTHED.stroke_width(3)));
        if !self.validation.is_empty() {
            chart
                .draw_series(LineSeries::new(self.validation.iter().copied(), VALIDATION.stroke_width(2)))?
                .label("validation")
                .legend(|(x, y)| PathElement::new([(x, y), (x + 22, y)], VALIDATION.stroke_width(2)));
            chart.draw_series(self.validation.iter().map(|point| Circle::new(*point, 4, VALIDATION.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .margin(14)
            .background_style(WHITE.mix(0.9))
            .border_style(RGBColor(0xcc, 0xcc, 0xcc))
            .label_font(("sans-serif", 16))
            .draw()
    }
}

/// Means of neighbours, so that at most `most` points are left.
fn averaged(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(most).max(1);
    let mean = |points: &[(f64, f64)], part: fn(&(f64, f64)) -> f64| {
        points.iter().map(part).sum::<f64>() / points.len() as f64
    };
    points.chunks(group).map(|points| (mean(points, |point| point.0), mean(points, |point| point.1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_shows_both_losses_with_labelled_axes() {
        let mut curve = LossCurve::default();
        for iteration in 1..=1000 {
            curve.add_training(iteration, 3.0 / iteration as f64);
        }
        curve.add_training(1001, f64::NAN);
        curve.add_validation(0, 3.2);
        curve.add_validation(1000, 0.5);
        let svg = curve.to_svg("a run").unwrap();
        for text in ["a run", "iteration", "loss (nats per token)", "training, averaged", "validation"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(!svg.contains("NaN"));
        assert_eq!(curve.validation_ends(), Some((3.2, 0.5)));
    }

    #[test]
    fn runs_of_no_or_one_iteration_can_be_drawn() {
        let mut curve = LossCurve::default();
        assert!(curve.to_svg("none").unwrap().contains("</svg>"));
        curve.add_training(1, 0.0);
        assert!(curve.to_svg("one").unwrap().contains("</svg>"));
    }

    #[test]
    fn many_points_are_averaged_and_few_are_kept() {
        assert_eq!(averaged(&[(1.0, 2.0), (2.0, 4.0), (3.0, 9.0)], 2), [(1.5, 3.0), (3.0, 9.0)]);
        assert_eq!(averaged(&[(1.0, 2.0), (2.0, 4.0)], 2), [(1.0, 2.0), (2.0, 4.0)]);
        assert_eq!(averaged(&[], 2), []);
    }
}
