//! The frame of all pages.

use maud::{DOCTYPE, Markup, html};

/// A page that does not refresh by itself.
pub(super) fn document(title: &str, content: Markup) -> Markup {
    let back = html! { p { a href="/" { "Back to all connectors" } } };
    whole(title, &Markup::default(), &content, &back)
}

/// A page with an element beside its heading, and a footer.
pub(super) fn whole(title: &str, beside: &Markup, content: &Markup, footer: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="/icon.svg";
                link rel="stylesheet" href="/style.css";
                script src="/script.js" defer {}
            }
            body {
                header { h1 { "HTTP sink" } (beside) }
                main id="status" { (content) }
                footer { (footer) }
            }
        }
    }
}
