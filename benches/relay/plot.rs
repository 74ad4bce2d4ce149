//! Bar charts as SVG, readable on light and on dark paper.

use std::fmt::Write as _;

/// One bar of a group, and the name of its group.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) digits: usize,
    pub(crate) is_ours: bool,
}

const WIDTH: usize = 640;
const NAMES: usize = 150;
const VALUES: usize = 70;
const BAR: usize = 16;
const STEP: usize = 22;
const HEAD: usize = 34;

/// Horizontal bars under a title, from zero.
pub(crate) fn bars(title: &str, bars: &[Bar]) -> String {
    let height = HEAD + bars.len() * STEP + 8;
    let longest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    #[allow(clippy::cast_precision_loss)] // Pixels.
    let room = (WIDTH - NAMES - VALUES) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>{title}</title>\n\
         <style>\n\
         text {{ font: 12px system-ui, sans-serif; fill: #333 }}\n\
         .title {{ font-weight: 600; font-size: 13px }}\n\
         .peer {{ fill: #9aa5b1 }} .ours {{ fill: #2f7ed8 }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         text {{ fill: #ddd }} .peer {{ fill: #6b7785 }} .ours {{ fill: #5aa2f0 }}\n\
         }}\n\
         </style>\n\
         <text class=\"title\" x=\"0\" y=\"16\">{title}</text>\n"
    );
    for (index, bar) in bars.iter().enumerate() {
        let top = HEAD + index * STEP;
        let base = top + BAR - 4;
        let length = (bar.value.max(0.0) / longest * room).max(1.0);
        let class = if bar.is_ours { "ours" } else { "peer" };
        #[allow(clippy::cast_precision_loss)] // Pixels.
        let end = NAMES as f64 + length + 6.0;
        // Writing into a string cannot fail.
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{class}\" x=\"{NAMES}\" y=\"{top}\" width=\"{length:.1}\" \
             height=\"{BAR}\"/>\n\
             <text x=\"{end:.1}\" y=\"{base}\">{:.*}</text>\n",
            NAMES - 8,
            escape(&bar.name),
            bar.digits,
            bar.value
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
