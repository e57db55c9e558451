//! A page of HTML that needs nothing but itself: pictures and styles are in it, and there are no scripts.

use crate::eval::table::Table;
use crate::sensor::RgbImage;
use std::fmt::Write as _;
use std::io;

/// A page that grows from its top. Every text is escaped.
pub struct Page {
    html: String,
}

/// The page may load nothing, from anywhere.
const HEAD: &str = r#"<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1f26; background: #fff; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #ccd; }
h3 { font-size: 1rem; margin-bottom: .3rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
td, th { padding: .15rem .7rem; text-align: right; white-space: nowrap; } .left { text-align: left; }
th { border-bottom: 2px solid #99a; } tr:nth-child(even) td { background: #f3f4f8; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dt { color: #556; } dd { margin: 0; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 34rem), 1fr)); gap: 1rem; }
svg, img { max-width: 100%; height: auto; } .scroll svg { max-width: none; } figure { margin: 0 0 2rem; } .headline { font-size: 1.4rem; }
</style>
"#;

impl Page {
    pub fn new(title: &str) -> Self {
        let title = escaped(title);
        Self {
            html: format!("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n{HEAD}<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n"),
        }
    }

    pub fn finish(mut self) -> String {
        self.html += "</body>\n</html>\n";
        self.html
    }

    pub fn section(&mut self, title: &str) {
        self.element("h2", title);
    }

    pub fn subsection(&mut self, title: &str) {
        self.element("h3", title);
    }

    pub fn paragraph(&mut self, text: &str) {
        self.element("p", text);
    }

    pub fn headline(&mut self, text: &str) {
        self.put(format_args!("<p class=\"headline\">{}</p>\n", escaped(text)));
    }

    pub fn list(&mut self, lines: impl IntoIterator<Item = String>) {
        self.html += "<ul>\n";
        lines.into_iter().for_each(|line| self.element("li", &line));
        self.html += "</ul>\n";
    }

    /// Names and what they stand for.
    pub fn facts(&mut self, facts: &[(String, String)]) {
        self.html += "<dl>\n";
        for (name, value) in facts {
            self.put(format_args!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), escaped(value)));
        }
        self.html += "</dl>\n";
    }

    pub fn table(&mut self, table: &Table) {
        self.html += "<div class=\"scroll\"><table>\n";
        for (i, row) in table.rows().iter().enumerate() {
            let tag = if i == 0 { "th" } else { "td" };
            self.html += "<tr>";
            for (column, cell) in row.iter().enumerate() {
                let class = if table.is_left(column) { " class=\"left\"" } else { "" };
                self.put(format_args!("<{tag}{class}>{}</{tag}>", escaped(cell)));
            }
            self.html += "</tr>\n";
        }
        self.html += "</table></div>\n";
    }

    /// Drawings as SVG text, side by side where there is room.
    pub fn charts<'a>(&mut self, svgs: impl IntoIterator<Item = &'a str>) {
        self.html += "<div class=\"charts\">\n";
        svgs.into_iter().for_each(|svg| self.put(format_args!("<figure>{svg}</figure>\n")));
        self.html += "</div>\n";
    }

    /// A drawing as SVG text that keeps its size: readers of narrow screens move it.
    pub fn drawing(&mut self, svg: &str) {
        self.put(format_args!("<figure class=\"scroll\">{svg}</figure>\n"));
    }

    /// `description` is for those who cannot see it.
    ///
    /// # Errors
    /// An image without pixels.
    pub fn picture(&mut self, image: &RgbImage, description: &str) -> io::Result<()> {
        let mut png = Vec::new();
        image.encode_png(&mut png)?;
        let (width, height) = image.dimensions();
        let alt = escaped(description);
        let data = base64(&png);
        self.put(format_args!(
            "<figure><img width=\"{width}\" height=\"{height}\" alt=\"{alt}\" src=\"data:image/png;base64,{data}\"></figure>\n"
        ));
        Ok(())
    }

    fn element(&mut self, tag: &str, text: &str) {
        self.put(format_args!("<{tag}>{}</{tag}>\n", escaped(text)));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.html.write_fmt(text);
    }
}

/// As text and as a quoted attribute. Characters that no HTML may hold become the replacement character.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) as usize % 64;
            text.push(if digit <= chunk.len() { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfcs_test_vectors() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy")];
        vectors.into_iter().for_each(|(bytes, text)| assert_eq!(base64(bytes.as_bytes()), text));
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn no_text_can_leave_its_element() {
        let hostile = "<script>alert('x')</script> & \"quoted\" \u{1}";
        let mut page = Page::new(hostile);
        page.section(hostile);
        page.facts(&[(hostile.into(), hostile.into())]);
        page.list([hostile.to_owned()]);
        let mut table = Table::new([hostile]);
        table.row([hostile.to_owned()]);
        page.table(&table);
        page.picture(&RgbImage::from_pixel(2, 1, [1, 2, 3]), "\"> <b>").unwrap();
        let html = page.finish();
        assert!(!html.contains("<script") && !html.contains("<b>") && !html.contains('\u{1}'), "{html}");
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;quoted&quot;"), "{html}");
        assert!(html.contains("alt=\"&quot;&gt; &lt;b&gt;\" src=\"data:image/png;base64,iVBORw0KGgo"), "{html}");
    }
}
